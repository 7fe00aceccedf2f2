//! `#[derive(State)]` and `#[derive(Row)]`: what is stored, with serde's traits and a text of its schema.

use crate::fields::{core_path, serde_attributes};
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Result};

/// Serde's traits for the type itself, by way of a private twin (serde's `remote`), so that one derive is enough.
fn serde_impls(input: &DeriveInput, core: &TokenStream) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "what is stored cannot be generic"));
    }
    let owner = &input.ident;
    let (twin, remote) = (format_ident!("__{owner}Stored"), owner.to_string());
    let serde = format!("{core}::derive_support::serde").replace(' ', "");
    let serde_path: TokenStream = serde.parse()?;
    let attributes = serde_attributes(&input.attrs);
    let mut twin_input = input.clone();
    let clean = |fields: &mut Fields| {
        for field in fields {
            field.attrs.retain(|attribute| attribute.path().is_ident("serde"));
        }
    };
    let body = match &mut twin_input.data {
        Data::Struct(data) => {
            clean(&mut data.fields);
            let (fields, end) = (&data.fields, data.semi_token);
            quote!(struct #twin #fields #end)
        }
        Data::Enum(data) => {
            for variant in &mut data.variants {
                variant.attrs.retain(|attribute| attribute.path().is_ident("serde"));
                clean(&mut variant.fields);
            }
            let variants = &data.variants;
            quote!(enum #twin { #variants })
        }
        Data::Union(_) => return Err(Error::new_spanned(owner, "a union cannot be stored")),
    };
    Ok(quote! {
        #[derive(#serde_path::Serialize, #serde_path::Deserialize)]
        #[serde(crate = #serde, remote = #remote)]
        #(#attributes)*
        #body

        #[automatically_derived]
        impl #serde_path::Serialize for #owner {
            fn serialize<S: #serde_path::Serializer>(&self, serializer: S) -> ::core::result::Result<S::Ok, S::Error> {
                #twin::serialize(self, serializer)
            }
        }

        #[automatically_derived]
        impl<'de> #serde_path::Deserialize<'de> for #owner {
            fn deserialize<D: #serde_path::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                #twin::deserialize(deserializer)
            }
        }
    })
}

/// Names and types of all fields as text.
fn schema(input: &DeriveInput) -> String {
    let fields = |fields: &Fields| {
        let shown: Vec<String> = fields
            .iter()
            .map(|field| {
                let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{name}:{}", field.ty.to_token_stream().to_string().replace(' ', ""))
            })
            .collect();
        shown.join(",")
    };
    match &input.data {
        Data::Struct(data) => fields(&data.fields),
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|v| format!("{}({})", v.ident, fields(&v.fields)))
            .collect::<Vec<_>>()
            .join("|"),
        Data::Union(_) => String::new(),
    }
}

/// A state is kept outside of the log and read back: a field that is not written would come back empty.
fn refuse_skipped(input: &DeriveInput) -> Result<()> {
    let fields: Vec<_> = match &input.data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    for attribute in fields.iter().flat_map(|field| serde_attributes(&field.attrs)) {
        let words = attribute.meta.to_token_stream().to_string();
        let skipped = words
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| ["skip", "skip_serializing", "skip_deserializing"].contains(&word));
        if skipped {
            return Err(Error::new_spanned(
                attribute,
                "a state is stored and read back: a field that is skipped would be lost; compute it when it is needed",
            ));
        }
    }
    Ok(())
}

pub(crate) fn state(input: &DeriveInput) -> Result<TokenStream> {
    refuse_skipped(input)?;
    let (owner, core) = (&input.ident, core_path());
    let (serde, schema) = (serde_impls(input, &core)?, schema(input));
    Ok(quote! {
        #[allow(clippy::all, clippy::pedantic)]
        const _: () = {
            #serde

            #[automatically_derived]
            impl #core::State for #owner {
                const SCHEMA: &'static str = #schema;
            }
        };
    })
}

pub(crate) fn row(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "a Row is a struct"));
    };
    let (owner, core) = (&input.ident, core_path());
    let (serde, schema) = (serde_impls(input, &core)?, schema(input));
    let indexed: Vec<_> = data
        .fields
        .iter()
        .filter(|field| field.attrs.iter().any(|attribute| attribute.path().is_ident("index")))
        .collect();
    let idents: Vec<_> = indexed.iter().filter_map(|field| field.ident.as_ref()).collect();
    let names: Vec<_> = idents.iter().map(ToString::to_string).collect();
    let types: Vec<_> = indexed.iter().map(|field| &field.ty).collect();
    Ok(quote! {
        #[allow(clippy::all, clippy::pedantic)]
        const _: () = {
            #serde

            #[automatically_derived]
            impl #core::Row for #owner {
                const SCHEMA: &'static str = #schema;
                const INDEXES: &'static [(&'static str, #core::IndexKind)] =
                    &[#((#names, <#types as #core::Indexed>::KIND)),*];

                fn index_values(&self) -> ::std::vec::Vec<::core::option::Option<#core::IndexValue>> {
                    ::std::vec![#(#core::Indexed::index_value(&self.#idents)),*]
                }
            }
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Option<String> {
        let input: DeriveInput = syn::parse_str(code).unwrap();
        state(&input).err().map(|error| error.to_string())
    }

    #[test]
    fn a_state_has_no_field_that_would_not_come_back() {
        for skipped in ["skip", "default, skip", "skip_serializing", "skip_deserializing"] {
            let error = refused(&format!("struct S {{ #[serde({skipped})] a: u64 }}")).unwrap();
            assert!(error.contains("would be lost"), "{error}");
            assert!(refused(&format!("enum S {{ A {{ #[serde({skipped})] a: u64 }} }}")).is_some());
        }
        let fine = r#"struct S { #[serde(default, skip_serializing_if = "Option::is_none")] a: Option<u64>, b: u64 }"#;
        assert_eq!(refused(fine), None);
    }
}
