//! The two macros the surface is written in. A key, its documentation, whether it must be there and its type are
//! said once; the raw form, the reader and the JSON Schema all come out of that one place.

/// A closed set of words: an enum and its spelling.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        $vis:vis enum $Name:ident {
            $( $(#[doc = $doc:literal])* $word:literal => $Variant:ident, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis enum $Name {
            $( $(#[doc = $doc])* #[doc = concat!("\n\nWritten `", $word, "`.")] $Variant, )*
        }

        impl $Name {
            /// The word it is written with.
            $vis const fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word, )* }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

/// [`words`] that a key can hold: adds the reader and the schema. A word after `later` is agreed but not built, and
/// refused by name.
macro_rules! choice {
    (
        $(#[doc = $about:literal])*
        $vis:vis enum $Name:ident {
            $( $(#[doc = $doc:literal])* $word:literal => $Variant:ident, )*
            $( later $later:literal, )*
        }
    ) => {
        $crate::grammar::words! {
            $(#[doc = $about])*
            $vis enum $Name {
                $( $(#[doc = $doc])* $word => $Variant, )*
            }
        }

        impl $crate::read::Read for $Name {
            fn read(value: &$crate::read::Value<'_>, reader: &mut $crate::read::Reader) -> Option<Self> {
                let words = [$( ($word, Self::$Variant), )*];
                reader.word(value, &words, &[$($later),*])
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::schema::words(&[$($about),*], &[$( ($word, &[$($doc),*]), )*], &[$($later),*])
            }
        }
    };
}
pub(crate) use choice;

/// A table of the file in its raw form: every key is an `Option`, because each may be wrong on its own, and then has
/// been reported already.
///
/// A key is `required`, `optional`, or has a `default` that is read as if the file had said it. `as` gives the
/// file's spelling where it differs from the field's. Keys under `later` are agreed but not built, and refused by name.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        struct $Name:ident {
            $( $(#[doc = $doc:literal])* $need:ident $field:ident $(as $key:literal)? : $Type:ty $(= $default:tt)?, )*
        }
        $( later { $( $(#[doc = $later_doc:literal])* $later:literal, )* } )?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(crate) struct $Name {
            $( $(#[doc = $doc])* pub(crate) $field: Option<$crate::read::At<$Type>>, )*
        }

        impl $crate::read::Read for $Name {
            fn read(value: &$crate::read::Value<'_>, reader: &mut $crate::read::Reader) -> Option<Self> {
                let mut table = reader.table(value)?;
                let raw = Self {
                    $( $field: table.$need(
                        $crate::grammar::key!($field $($key)?),
                        &[$($doc),*],
                        $( serde_json::json!($default) )?
                    ), )*
                };
                $( $( table.later($later); )* )?
                table.close();
                Some(raw)
            }
        }

        impl schemars::JsonSchema for $Name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut table = $crate::schema::Table::new(generator, &[$($about),*]);
                $( table.$need::<$Type>(
                    $crate::grammar::key!($field $($key)?),
                    &[$($doc),*],
                    $( serde_json::json!($default) )?
                ); )*
                $( $( table.later($later, &[$($later_doc),*]); )* )?
                table.finish()
            }
        }
    };
}
pub(crate) use table;

/// The spelling of a key: the field's name, unless another is given.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}
pub(crate) use key;
