//! `#[derive(Command)]`.

use crate::fields::{core_path, kebab, variant_code, variants};
use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, Result, Variant};

fn name_of(variant: &Variant) -> Result<String> {
    let mut name = kebab(&variant.ident);
    for attribute in variant
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("command"))
    {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("expected name = \"…\""));
            }
            name = meta.value()?.parse::<LitStr>()?.value();
            Ok(())
        })?;
    }
    Ok(name)
}

pub(crate) fn command(input: &DeriveInput) -> Result<TokenStream> {
    let data = variants(input, "a Command")?;
    let (owner, core) = (&input.ident, core_path());
    let support = quote!(#core::derive_support);
    let serde = format!("{support}::serde").replace(' ', "");
    let (mut names, mut arms, mut writes, mut from_json, mut from_msgpack, mut structs) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for variant in &data.variants {
        let (ident, name) = (&variant.ident, name_of(variant)?);
        let code = variant_code(owner, variant, &serde, true)?;
        let (pattern, writable) = (&code.pattern, &code.writable);
        let (readable, rebuilt) = (&code.readable, &code.rebuilt);
        arms.push(quote!(#owner::#ident { .. } => #name));
        writes.push(quote!(#pattern => #support::command_to_msgpack(#name, &#writable)));
        for (arms, read) in [
            (&mut from_json, quote!(command_from_json)),
            (&mut from_msgpack, quote!(command_from_msgpack)),
        ] {
            arms.push(quote!(#name => {
                let fields: #readable = #support::#read(name, body)?;
                let _ = &fields;
                Ok(#rebuilt)
            }));
        }
        structs.push(code.structs);
        names.push(name);
    }
    let unknown = quote!(_ => Err(#core::InvalidCommand::Unknown {
        name: name.chars().take(80).collect(),
        known: <Self as #core::Command>::NAMES,
    }));
    let result = quote!(::core::result::Result<Self, #core::InvalidCommand>);
    Ok(quote! {
        #[allow(non_camel_case_types, clippy::all, clippy::pedantic)]
        const _: () = {
            #(#structs)*

            #[automatically_derived]
            impl #core::Command for #owner {
                const NAMES: &'static [&'static str] = &[#(#names),*];

                fn name(&self) -> &'static str {
                    match self { #(#arms,)* }
                }

                fn from_json(name: &str, body: &[u8]) -> #result {
                    match name { #(#from_json)* #unknown }
                }

                fn from_msgpack(name: &str, body: &[u8]) -> #result {
                    match name { #(#from_msgpack)* #unknown }
                }

                fn to_msgpack(&self) -> ::core::result::Result<::std::vec::Vec<u8>, #core::InvalidCommand> {
                    match self { #(#writes,)* }
                }
            }
        };
    })
}
