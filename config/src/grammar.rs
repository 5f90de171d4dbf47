//! The two macros the surface is written in. A key, its documentation, whether it must be there and its type are
//! said once; the raw form, the reader and the JSON Schema all come out of that one place.

/// A closed set of words. Gives the enum its spelling; a word after `later` is agreed but not built, and refused
/// by name.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $( $(#[doc = $doc:literal])* $word:literal => $Variant:ident, )*
            $( later $later:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Name {
            $( $(#[doc = $doc])* #[doc = concat!("\n\nWritten `", $word, "`.")] $Variant, )*
        }

        impl $Name {
            /// The word that the file uses.
            pub const fn as_str(self) -> &'static str {
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
pub(crate) use choice;
