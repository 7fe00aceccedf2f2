//! `#[derive(Event)]` and `#[derive(EventSet)]`.

use crate::fields::{core_path, variant_code, variants};
use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{DeriveInput, Error, Fields, Ident, LitInt, LitStr, Path, Result, Token, Variant};

#[derive(Default)]
struct EventAttributes {
    name: Option<LitStr>,
    was: Vec<LitStr>,
    version: Option<LitInt>,
    upcast: Option<Path>,
    tags: Vec<TagAttribute>,
}

impl EventAttributes {
    fn parse(variant: &Variant) -> Result<Self> {
        let mut found = Self::default();
        for attribute in variant
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("event"))
        {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    found.name = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("was") {
                    found.was.push(meta.value()?.parse()?);
                } else if meta.path.is_ident("version") {
                    found.version = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("upcast") {
                    found.upcast = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("tags") {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    let tags = Punctuated::<TagAttribute, Token![,]>::parse_terminated(&content)?;
                    found.tags.extend(tags);
                } else {
                    return Err(meta.error("expected name, was, version, upcast or tags(…)"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// `field`, `key = field` or `key = function(field)`.
struct TagAttribute {
    key: String,
    function: Option<Path>,
    field: Ident,
}

impl syn::parse::Parse for TagAttribute {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        let first: Ident = input.parse()?;
        let key = first.to_string();
        if input.parse::<Option<Token![=]>>()?.is_none() {
            return Ok(Self {
                key,
                function: None,
                field: first,
            });
        }
        let path: Path = input.parse()?;
        if input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            return Ok(Self {
                key,
                function: Some(path),
                field: content.parse()?,
            });
        }
        Ok(Self {
            key,
            function: None,
            field: path.require_ident()?.clone(),
        })
    }
}

pub(crate) fn event(input: &DeriveInput) -> Result<TokenStream> {
    let data = variants(input, "an Event")?;
    let (owner, core) = (&input.ident, core_path());
    let support = quote!(#core::derive_support);
    let serde = format!("{support}::serde").replace(' ', "");
    let (mut types, mut names, mut tags, mut encodes, mut decodes, mut structs) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for (index, variant) in data.variants.iter().enumerate() {
        let attributes = EventAttributes::parse(variant)?;
        let code = variant_code(owner, variant, &serde, false)?;
        let ident = &variant.ident;
        let name = attributes
            .name
            .clone()
            .unwrap_or_else(|| LitStr::new(&ident.to_string(), ident.span()));
        let was = &attributes.was;
        let version = attributes
            .version
            .as_ref()
            .map_or_else(|| quote!(1), |version| quote!(#version));
        types.push(quote!(#core::EventType { name: #name, version: #version, was: &[#(#was),*] }));
        names.push(quote!(#owner::#ident { .. } => &<Self as #core::Event>::TYPES[#index]));
        tags.push(tags_arm(owner, variant, &attributes, &core)?);
        let (pattern, writable) = (&code.pattern, &code.writable);
        encodes.push(quote!(#pattern => #support::encode_fields(&<Self as #core::Event>::TYPES[#index], &#writable)));
        let upcast = attributes
            .upcast
            .as_ref()
            .map_or_else(|| quote!(None), |path| quote!(Some(#path)));
        let (readable, rebuilt) = (&code.readable, &code.rebuilt);
        decodes.push(quote!(#name #(| #was)* => {
            let known = &<Self as #core::Event>::TYPES[#index];
            let fields: #readable = #support::decode_fields(known, #upcast, payload)?;
            let _ = &fields;
            Ok(Some(#rebuilt))
        }));
        structs.push(code.structs);
    }
    Ok(quote! {
        #[allow(non_camel_case_types, clippy::all, clippy::pedantic)]
        const _: () = {
            #(#structs)*

            #[automatically_derived]
            impl #core::Event for #owner {
                const TYPES: &'static [#core::EventType] = &[#(#types),*];

                fn event_type(&self) -> &'static #core::EventType {
                    match self { #(#names,)* }
                }

                fn tags(&self) -> ::std::vec::Vec<#core::EventTag> {
                    match self { #(#tags,)* }
                }

                fn encode(&self) -> ::core::result::Result<::std::vec::Vec<u8>, #core::DecodeError> {
                    match self { #(#encodes,)* }
                }

                fn decode(
                    name: &str,
                    payload: #core::Payload<'_>,
                ) -> ::core::result::Result<::core::option::Option<Self>, #core::DecodeError> {
                    match name { #(#decodes)* _ => Ok(None) }
                }
            }
        };
    })
}

fn tags_arm(owner: &Ident, variant: &Variant, attributes: &EventAttributes, core: &TokenStream) -> Result<TokenStream> {
    let ident = &variant.ident;
    if attributes.tags.is_empty() {
        return Ok(quote!(#owner::#ident { .. } => ::std::vec::Vec::new()));
    }
    let (mut tags, mut bound) = (vec![], vec![]);
    for TagAttribute { key, function, field } in &attributes.tags {
        if !variant.fields.iter().any(|known| known.ident.as_ref() == Some(field)) {
            return Err(Error::new_spanned(
                field,
                format!("{ident} has no field {field}: a tag names a field"),
            ));
        }
        let value = function
            .as_ref()
            .map_or_else(|| quote!(#field), |function| quote!(&#function(#field)));
        tags.push(quote!(#core::derive_support::TagValue::event_tag(#value, #key)));
        bound.push(field);
    }
    bound.sort();
    bound.dedup();
    Ok(quote!(#owner::#ident { #(#bound,)* .. } => [#(#tags),*].into_iter().flatten().collect()))
}

pub(crate) fn event_set(input: &DeriveInput) -> Result<TokenStream> {
    let data = variants(input, "an EventSet")?;
    let (owner, core) = (&input.ident, core_path());
    let (mut idents, mut types) = (vec![], vec![]);
    for variant in &data.variants {
        match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                idents.push(&variant.ident);
                types.push(&fields.unnamed[0].ty);
            }
            _ => return Err(Error::new_spanned(variant, "write it as Name(EventType)")),
        }
    }
    Ok(quote! {
        #[automatically_derived]
        impl #core::EventSet for #owner {
            fn reads(name: &str) -> bool {
                #(<#types as #core::EventSet>::reads(name))||*
            }

            fn decode(
                name: &str,
                payload: #core::Payload<'_>,
            ) -> ::core::result::Result<::core::option::Option<Self>, #core::DecodeError> {
                #(
                    if let Some(event) = <#types as #core::EventSet>::decode(name, payload)? {
                        return Ok(Some(#owner::#idents(event)));
                    }
                )*
                Ok(None)
            }
        }
    })
}
