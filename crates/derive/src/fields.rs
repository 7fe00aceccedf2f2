//! What the derives share: the path to `annals-core`, kebab-case, and variants turned into structs of their own.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Attribute, Data, DataEnum, DeriveInput, Error, Fields, Result, Variant};

/// The path by which the deriving crate reaches `annals-core`: its own dependency, or the facade's re-export.
pub(crate) fn core_path() -> TokenStream {
    let named = |name: &str, own: &str| match crate_name(name) {
        Ok(FoundCrate::Itself) => Some(Ident::new(own, Span::call_site())),
        Ok(FoundCrate::Name(found)) => Some(Ident::new(&found, Span::call_site())),
        Err(_) => None,
    };
    if let Some(core) = named("annals-core", "annals_core") {
        return quote!(::#core);
    }
    match named("annals", "annals") {
        Some(facade) => quote!(::#facade::__core),
        None => quote!(::annals_core),
    }
}

/// The enum behind a derive, or an error that says what is expected.
pub(crate) fn variants<'a>(input: &'a DeriveInput, what: &str) -> Result<&'a DataEnum> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, format!("{what} cannot be generic")));
    }
    match &input.data {
        Data::Enum(data) if !data.variants.is_empty() => Ok(data),
        _ => Err(Error::new_spanned(
            &input.ident,
            format!("{what} is an enum with a variant for each kind"),
        )),
    }
}

/// `SignIn` as `sign-in`.
pub(crate) fn kebab(ident: &Ident) -> String {
    let mut out = String::new();
    for (i, c) in ident.to_string().chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// Only the attributes that serde reads.
pub(crate) fn serde_attributes(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .collect()
}

/// Code for the fields of one variant: how to take it apart, write it and read it back.
pub(crate) struct VariantCode {
    /// Pattern that binds every field by its name.
    pub pattern: TokenStream,
    /// Structs to write and to read, empty for a variant that needs none.
    pub structs: TokenStream,
    /// Expression of something serializable, with the fields bound.
    pub writable: TokenStream,
    /// Type to deserialize.
    pub readable: TokenStream,
    /// Expression of the variant, from `fields` of the readable type.
    pub rebuilt: TokenStream,
}

/// Code for a variant of `owner`. `strict` refuses unknown fields.
pub(crate) fn variant_code(owner: &Ident, variant: &Variant, serde: &str, strict: bool) -> Result<VariantCode> {
    let name = &variant.ident;
    match &variant.fields {
        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
            let inner = &fields.unnamed[0].ty;
            Ok(VariantCode {
                pattern: quote!(#owner::#name(inner)),
                structs: quote!(),
                writable: quote!(inner),
                readable: quote!(#inner),
                rebuilt: quote!(#owner::#name(fields)),
            })
        }
        Fields::Unnamed(fields) => Err(Error::new_spanned(
            fields,
            "give the fields names, or hold them in one struct",
        )),
        Fields::Named(_) | Fields::Unit => {
            let fields: Vec<_> = variant.fields.iter().collect();
            let idents: Vec<_> = fields.iter().filter_map(|field| field.ident.as_ref()).collect();
            let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
            let attributes: Vec<_> = fields.iter().map(|field| serde_attributes(&field.attrs)).collect();
            let (read, write) = (format_ident!("__{owner}{name}"), format_ident!("__{owner}{name}Ref"));
            let life = if idents.is_empty() { quote!() } else { quote!(<'a>) };
            let strict = if strict {
                quote!(#[serde(deny_unknown_fields)])
            } else {
                quote!()
            };
            let serde_path: TokenStream = serde.parse()?;
            Ok(VariantCode {
                pattern: quote!(#owner::#name { #(#idents),* }),
                structs: quote! {
                    #[derive(#serde_path::Deserialize)]
                    #[serde(crate = #serde)]
                    #strict
                    struct #read { #(#(#attributes)* #idents: #types,)* }
                    #[derive(#serde_path::Serialize)]
                    #[serde(crate = #serde)]
                    struct #write #life { #(#idents: &'a #types,)* }
                },
                writable: quote!(#write { #(#idents),* }),
                readable: quote!(#read),
                rebuilt: quote!(#owner::#name { #(#idents: fields.#idents),* }),
            })
        }
    }
}
