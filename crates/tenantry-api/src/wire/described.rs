//! Texts and free objects as the description of this protocol has them. What they may be is checked
//! where they are parsed; nothing here is ever made.
//!
//! Lengths are in bytes there and in characters here: JSON Schema has no word for bytes, so that
//! what is described is a little more than what is taken.

use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, Object, ObjectBuilder, Ref, RefOr, Schema,
        schema::{AdditionalProperties, AnyOfBuilder, SchemaType, Type},
    },
};

/// A name: 1 to 512 bytes of UTF-8 without control characters.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 512,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
pub(crate) struct Name(#[expect(dead_code, reason = "it is only described")] String);

/// A record's id: 1 to 8,192 bytes of UTF-8.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 8_192)]
pub(crate) struct RecordIdText(#[expect(dead_code, reason = "it is only described")] String);

/// The name of a named vector.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^[A-Za-z0-9_.-]{1,64}$")]
pub(crate) struct VectorNameText(#[expect(dead_code, reason = "it is only described")] String);

/// `home`, or the name of a location: 1 to 24 of a-z, 0-9 and -, a letter first.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^[a-z][a-z0-9-]{0,23}$")]
pub(crate) struct LocationText(#[expect(dead_code, reason = "it is only described")] String);

/// 32 bytes in hexadecimal digits.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9A-Fa-f]{64}$")]
pub(crate) struct Digits(#[expect(dead_code, reason = "it is only described")] String);

/// The components of a vector.
#[derive(ToSchema)]
#[schema(value_type = Vec<f32>, min_items = 1, max_items = 16_384)]
pub(crate) struct Components(#[expect(dead_code, reason = "it is only described")] Vec<f32>);

/// How a tenant is kept apart from others.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
pub(crate) enum IsolationName {
    /// In the same tables as others.
    Shared,
    /// In tables of its own.
    Schema,
    /// In a database of its own.
    Database,
}

/// What keeps data.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
pub(crate) enum BackendName {
    /// Files.
    Embedded,
    /// A PostgreSQL database.
    Postgres,
}

/// Whether a tenant is served.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is only described")]
pub(crate) enum StateName {
    /// It is.
    Active,
    /// Its keys are refused.
    Suspended,
    /// It is gone.
    Deleted,
    /// An import or a copy fills it.
    Provisioning,
}

macro_rules! described {
    ($name:ident, $word:literal, $schema:expr) => {
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($word)
            }
        }
    };
}

/// Metadata that replace others or come back.
pub(crate) struct Metadata;
/// Metadata that change others.
pub(crate) struct MetadataPatch;
/// A filter, which may hold filters.
pub(crate) struct Filter;

described!(Metadata, "Metadata", {
    let text = "Scalars, or lists of scalars of one kind, by their keys.";
    metadata(text, scalar_types())
});
described!(MetadataPatch, "MetadataPatch", {
    let text = "Scalars, or lists of scalars of one kind, by their keys; `null` removes a key.";
    metadata(text, scalar_types().chain([Type::Null]))
});
described!(Filter, "Filter", filter());

fn scalar_types() -> impl Iterator<Item = Type> {
    [Type::String, Type::Number, Type::Boolean].into_iter()
}

fn one_of_types(types: impl Iterator<Item = Type>) -> Object {
    ObjectBuilder::new().schema_type(types.collect::<SchemaType>()).build()
}

fn list_of(of: impl Into<RefOr<Schema>>) -> ArrayBuilder {
    ArrayBuilder::new().items(of.into())
}

fn metadata(text: &str, types: impl Iterator<Item = Type>) -> RefOr<Schema> {
    let any = AnyOfBuilder::new().item(one_of_types(types));
    let any = scalar_types()
        .fold(any, |any, kind| any.item(list_of(one_of_types([kind].into_iter())).build()));
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(1_024))
        .build();
    ObjectBuilder::new()
        .description(Some(text))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(any.build().into()))))
        .property_names(Some(Schema::Object(key)))
        .max_properties(Some(1_024))
        .build()
        .into()
}

fn filter() -> RefOr<Schema> {
    let deeper = || Ref::from_schema_name("Filter");
    let scalar = || one_of_types(scalar_types());
    let ordered = || one_of_types([Type::String, Type::Number].into_iter());
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let tests = ["$eq", "$ne", "$contains", "$not_contains"]
        .into_iter()
        .fold(ObjectBuilder::new(), |tests, word| tests.property(word, scalar()));
    let tests = ["$gt", "$gte", "$lt", "$lte"]
        .into_iter()
        .fold(tests, |tests, word| tests.property(word, ordered()))
        .property("$in", list_of(scalar()))
        .property("$nin", list_of(scalar()))
        .property("$exists", ObjectBuilder::new().schema_type(Type::Boolean))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .min_properties(Some(1));
    let texts = ["$contains", "$not_contains"]
        .into_iter()
        .fold(ObjectBuilder::new(), |texts, word| texts.property(word, text()));
    let texts = ["$regex", "$not_regex"]
        .into_iter()
        .fold(texts, |texts, word| texts.property(word, text().max_length(Some(4_096))))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .min_properties(Some(1));
    let field = AnyOfBuilder::new().item(scalar()).item(tests).build();
    let word = text().pattern(Some(r"^([^$]|\$(and|or|not|document)$)"));
    ObjectBuilder::new()
        .description(Some("What a record must be; the grammar is in the reference."))
        .property("$and", list_of(deeper()))
        .property("$or", list_of(deeper()))
        .property("$not", deeper())
        .property("$document", texts)
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(field.into()))))
        .property_names(Some(Schema::Object(word.build())))
        .build()
        .into()
}
