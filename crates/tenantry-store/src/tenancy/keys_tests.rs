use super::*;
use proptest::prelude::*;

fn prefix(tenant: u64) -> Prefix {
    Prefix::of(TenantId::new(tenant))
}

#[test]
fn no_family_number_is_used_twice() {
    let mut numbers: Vec<u8> = FAMILIES.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), FAMILIES.len());
}

#[test]
fn every_family_stands_in_the_page_about_the_format() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/embedded.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (number, name) in FAMILIES {
        let row = format!("| `{number:#04x}` | `{name}` |");
        assert!(page.contains(&row), "docs/formats/embedded.md has no row that starts with {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `0x")).count();
    assert_eq!(rows, FAMILIES.len(), "the page has rows of families that do not exist");
}

/// Round trip, order kept within a tenant, and prefixes that hold exactly the tenant's family.
macro_rules! laws {
    ($($test:ident: $name:ident { $($field:ident : $strategy:expr => $make:path),* $(,)? };)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
            #[test]
            fn $test(
                t in any::<u64>(), u in any::<u64>(),
                a in ($($strategy,)* Just(0_u8), Just(0_u8)), b in ($($strategy,)* Just(0_u8), Just(0_u8)),
            ) {
                let first = {
                    let &($(ref $field,)* _, _) = &a;
                    $name { $($field: $make($field)),* }
                };
                let second = {
                    let &($(ref $field,)* _, _) = &b;
                    $name { $($field: $make($field)),* }
                };
                let (one, two) = (first.encode(prefix(t)), second.encode(prefix(t)));
                prop_assert_eq!($name::decode(prefix(t), &one), Some(first.clone()));
                prop_assert_eq!(one.cmp(&two), first.cmp(&second));
                prop_assert!(one.starts_with(&$name::all(prefix(t))));
                prop_assert!(one.starts_with(&prefix(t).everything()));
                if t != u {
                    let other = first.encode(prefix(u));
                    prop_assert!(!other.starts_with(&prefix(t).everything()));
                    prop_assert_eq!($name::decode(prefix(t), &other), None);
                    prop_assert_eq!(one.cmp(&other), t.cmp(&u));
                }
                for (number, _) in FAMILIES.iter().filter(|(n, _)| *n != $name::FAMILY) {
                    prop_assert!(!one.starts_with(&prefix(t).start(*number, 0)));
                }
                let mut longer = one.clone();
                longer.push(0);
                prop_assert_ne!($name::decode(prefix(t), &longer), Some(first));
            }
        }
    )*};
}

fn same<T: Copy>(value: &T) -> T {
    *value
}

fn tail(value: &[u8]) -> Tail<'_> {
    Tail(value)
}

fn middle(value: &[u8]) -> Middle {
    Middle(value.to_vec())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..12)
}

laws! {
    tenant_name: TenantName { name: bytes() => tail };
    key: Key { id: any::<[u8; 10]>() => same };
    purge: Purge { tenant: any::<u64>() => same, collection: any::<u32>() => same };
    next_tenant: NextTenant {};
    place: Place { tenant: any::<u64>() => same };
    told: Told { tenant: any::<u64>() => same, number: any::<u64>() => same };
    next_space: NextSpace {};
    free_space: FreeSpace { space: any::<u32>() => same };
    bucket: Bucket { bucket: any::<u32>() => same };
    place_version: PlaceVersion {};
    own_database: OwnDatabase { tenant: any::<u64>() => same };
    claim: Claim {};
    a_move: Move { tenant: any::<u64>() => same };
    claimed: Claimed { location: bytes() => tail };
    home: Home {};
    arriving: Arriving { tenant: any::<u64>() => same };
    plan: Plan { name: bytes() => tail };
    tenant_of_plan: TenantOfPlan { plan: bytes() => middle, tenant: any::<u64>() => same };
    seen: Seen { tenant: any::<u64>() => same };
    usage: Usage { tenant: any::<u64>() => same, span: any::<u8>() => same, at: any::<u32>() => same };
    journal: Journal { node: any::<[u8; 16]>() => same, number: any::<u64>() => same };
    written: Written { node: any::<[u8; 16]>() => same };
    tariff: Tariff { plan: bytes() => middle, from: any::<u32>() => same };
    webhook: Webhook { name: bytes() => tail };
    delivery: Delivery { webhook: any::<u64>() => same, at: any::<u64>() => same, id: any::<[u8; 16]>() => same };
    dead_letter: DeadLetter { webhook: any::<u64>() => same, id: any::<[u8; 16]>() => same };
    member: Member { tenant: any::<u64>() => same, id: any::<[u8; 32]>() => same };
    group: Group { tenant: any::<u64>() => same, group: any::<u32>() => same };
    member_counts: MemberCounts { tenant: any::<u64>() => same };
    thresholds: Thresholds { tenant: any::<u64>() => same };
    event: Event { tenant: any::<u64>() => same, week: any::<u32>() => same, id: any::<[u8; 16]>() => same };
    event_day: EventDay { tenant: any::<u64>() => same };
    kept: Kept { tenant: any::<u64>() => same };
    erase: Erase { at: any::<u64>() => same, tenant: any::<u64>() => same };
    slot: Slot { tenant: any::<u64>() => same };
    tenant: Tenant {};
    head: Head {};
    database: Database { database: any::<u32>() => same };
    database_name: DatabaseName { name: bytes() => tail };
    collection: Collection { collection: any::<u32>() => same };
    collection_name: CollectionName { database: any::<u32>() => same, name: bytes() => tail };
    collection_id: CollectionId { id: any::<[u8; 16]>() => same };
    partition: Partition { collection: any::<u32>() => same, partition: any::<u32>() => same };
    partition_name: PartitionName { collection: any::<u32>() => same, name: bytes() => tail };
    key_of_tenant: KeyOfTenant { id: any::<[u8; 10]>() => same };
    id: Id { collection: any::<u32>() => same, partition: any::<u32>() => same, id: bytes() => tail };
    body: Body { collection: any::<u32>() => same, partition: any::<u32>() => same, ordinal: any::<u64>() => same };
    vector: Vector { collection: any::<u32>() => same, partition: any::<u32>() => same, vector: any::<u16>() => same, ordinal: any::<u64>() => same };
    sparse_vector: SparseVector { collection: any::<u32>() => same, partition: any::<u32>() => same, vector: any::<u16>() => same, ordinal: any::<u64>() => same };
    statistics: Statistics { collection: any::<u32>() => same, partition: any::<u32>() => same };
    expiry: Expiry { at: any::<u64>() => same, collection: any::<u32>() => same, partition: any::<u32>() => same, ordinal: any::<u64>() => same };
    secondary: Secondary { collection: any::<u32>() => same, partition: any::<u32>() => same, index: any::<u16>() => same, value: bytes() => middle, ordinal: any::<u64>() => same };
    change: Change { sequence: any::<u64>() => same };
    audit: Audit { sequence: any::<u64>() => same };
    ledger: Ledger { day: any::<u32>() => same, sequence: any::<u64>() => same };
    idempotency: Idempotency { key: any::<[u8; 32]>() => same };
}

proptest! {
    #[test]
    fn a_collections_prefixes_hold_its_keys_and_no_others(
        t in any::<u64>(), c in any::<u32>(), d in any::<u32>(), p in any::<u32>(), o in any::<u64>(),
    ) {
        let key = Body { collection: d, partition: p, ordinal: o }.encode(prefix(t));
        let covered = records_of(prefix(t), c).iter().any(|start| key.starts_with(start));
        prop_assert_eq!(covered, c == d);
        prop_assert!(key.starts_with(&bodies_of(prefix(t), d, p)));
        let key = Vector { collection: d, partition: p, vector: 0, ordinal: o }.encode(prefix(t));
        prop_assert!(key.starts_with(&vectors_of(prefix(t), d, p, 0)));
        prop_assert!(!key.starts_with(&vectors_of(prefix(t), d, p, 1)));
    }
}
