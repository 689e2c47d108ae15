//! Enumerations that end as a label of a metric or a word of a record.
//!
//! One declaration gives the variant, its index into a counter array and the word people read, so that a new reason
//! or kind is added in one place and is exported from then on.

/// Declares a fieldless enum whose variants have consecutive discriminants from zero and a label each.
macro_rules! labelled {
    ($(#[$attr:meta])* pub enum $name:ident { $($(#[$vattr:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vattr])* $variant,)+ }

        impl $name {
            /// Every variant, in order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many variants there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word for this variant in metrics and records.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// The variant's place in [`Self::ALL`] and in counter arrays.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The variant whose index has these bits; the first one for bits that no variant has.
            #[inline(always)]
            pub const fn from_bits(bits: u8) -> Self {
                if (bits as usize) < Self::COUNT {
                    // SAFETY: the discriminants are consecutive from zero, and this is one of them.
                    unsafe { core::mem::transmute::<u8, Self>(bits) }
                } else {
                    Self::ALL[0]
                }
            }
        }
    };
}
pub(crate) use labelled;
