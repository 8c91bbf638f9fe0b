//! What a number may be. Rust's unsigned types are described as signed ones by default, which would
//! forbid half of the numbers that are allowed, and floats without an end.

use utoipa::{
    Number,
    openapi::{
        OpenApi, RefOr, Schema,
        path::{Parameter, PathItem},
        schema::{AdditionalProperties, ArrayItems, KnownFormat, Object, SchemaFormat},
    },
};

/// Describes all numbers as what they are.
pub(super) fn set(document: &mut OpenApi) {
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(of_reference);
    }
    for item in document.paths.paths.values_mut() {
        for parameter in parameters(item) {
            parameter.schema.iter_mut().for_each(of_reference);
        }
    }
}

fn parameters(item: &mut PathItem) -> impl Iterator<Item = &mut Parameter> {
    let operations =
        [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
    let all = operations.into_iter().flatten().filter_map(|found| found.parameters.as_mut());
    all.flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}

fn of_reference(schema: &mut RefOr<Schema>) {
    if let RefOr::T(schema) = schema {
        of_schema(schema);
    }
}

fn of_schema(schema: &mut Schema) {
    match schema {
        Schema::Object(object) => of_object(object),
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                of_reference(items);
            }
        }
        Schema::OneOf(all) => all.items.iter_mut().for_each(of_reference),
        Schema::AllOf(all) => all.items.iter_mut().for_each(of_reference),
        Schema::AnyOf(all) => all.items.iter_mut().for_each(of_reference),
        _ => {}
    }
}

fn of_object(object: &mut Object) {
    object.properties.values_mut().for_each(of_reference);
    if let Some(AdditionalProperties::RefOr(rest)) = object.additional_properties.as_deref_mut() {
        of_reference(rest);
    }
    let SchemaFormat::KnownFormat(known) = object.format.clone().unwrap_or(UNSIZED) else { return };
    let unsigned = matches!(object.minimum, Some(Number::Int(0..) | Number::UInt(_)))
        || matches!(object.minimum, Some(Number::Float(least)) if least >= 0.0);
    let (format, most) = match known {
        KnownFormat::Int32 if unsigned => ("uint32", Number::from(u32::MAX)),
        KnownFormat::Int64 if unsigned => ("uint64", Number::from(u64::MAX)),
        KnownFormat::Float => {
            object.minimum.get_or_insert(Number::from(f64::from(f32::MIN)));
            object.maximum.get_or_insert(Number::from(f64::from(f32::MAX)));
            return;
        }
        _ => return,
    };
    object.format = Some(SchemaFormat::Custom(format.to_owned()));
    object.maximum.get_or_insert(most);
}

/// Counts have no format of their own; on every machine that this runs on they have 64 bits.
const UNSIZED: SchemaFormat = SchemaFormat::KnownFormat(KnownFormat::Int64);
