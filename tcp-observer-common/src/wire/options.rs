//! TCP options: those of a SYN that bind the connection, and the timestamps that any segment may carry.

use super::{OptionsSpan, forget_offset, load_bytes, load_u16, load_u32, load_words};
use crate::{frame::Frame, segment::Options, verifier::forget};

/// How many options are looked at. No stack's SYN has more than seven, padding included.
const MAX_OPTIONS: usize = 12;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const TIMESTAMPS: u8 = 8;
const FAST_OPEN: u8 = 34;
/// The experimental option, of which [`FAST_OPEN_MAGIC`] was Fast Open's
/// (<https://www.rfc-editor.org/rfc/rfc7413#appendix-A.1>).
const EXPERIMENTAL: u8 = 254;
const FAST_OPEN_MAGIC: u16 = 0xf989;
/// Options take up to 40 bytes, and a mask is what the verifier understands of that.
const MAX_BYTES: usize = 0x3f;
/// The greatest shift; larger ones count as this one (RFC 7323, section 2.3).
const MAX_SHIFT: u8 = 14;
/// Nothing but timestamps behind two bytes of padding, as RFC 7323 (appendix A) has them laid out and nearly all segments
/// but SYNs carry them.
const PADDED_TIMESTAMPS: u32 = u32::from_be_bytes([NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10]);
const PADDED_TIMESTAMPS_BYTES: usize = 12;

/// What the options in this place say. One that is torn, or lies about its length, ends the search: the segment still
/// counts, and what came before it as well.
#[inline(always)]
pub fn options<F: Frame + ?Sized>(frame: &F, span: OptionsSpan) -> Options {
    let mut options = Options::NONE;
    if span.bytes == PADDED_TIMESTAMPS_BYTES
        && let Ok([head, value, echo]) = load_words(frame, forget_offset(span.offset))
        && u32::from_be(head) == PADDED_TIMESTAMPS
    {
        options.ts_value = u32::from_be(value);
        options.ts_echo = u32::from_be(echo);
        options.present = Options::TIMESTAMPS;
        return options;
    }
    let mut at = 0;
    let mut seen = 0;
    while seen < MAX_OPTIONS {
        seen += 1;
        // Whatever came before: the verifier sees each round once, not once for all that may have preceded it.
        options = forgotten(options);
        at = forget(at as u64) as usize & MAX_BYTES;
        if at >= span.bytes {
            break;
        }
        let option = forget_offset(span.offset + at);
        // An option of a single byte, at the very end, is not one that is looked for.
        let Ok([kind, length]) = load_bytes(frame, option) else {
            break;
        };
        if kind == END {
            break;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let length = usize::from(length);
        if length < 2 || at + length > span.bytes {
            break;
        }
        match (kind, length) {
            (MAXIMUM_SEGMENT_SIZE, 4) => options.mss = load_u16(frame, option + 2).unwrap_or(0),
            (WINDOW_SCALE, 3) => {
                if let Ok([_, shift]) = load_bytes(frame, option + 1) {
                    options.window_shift = if shift < MAX_SHIFT { shift } else { MAX_SHIFT };
                }
            }
            (SACK_PERMITTED, 2) => options.present |= Options::SACK,
            (TIMESTAMPS, 10) => {
                if let (Ok(value), Ok(echo)) = (load_u32(frame, option + 2), load_u32(frame, option + 6)) {
                    options.ts_value = value;
                    options.ts_echo = echo;
                    options.present |= Options::TIMESTAMPS;
                }
            }
            (FAST_OPEN, _) => options.present |= Options::FAST_OPEN,
            (EXPERIMENTAL, 4..) if matches!(load_u16(frame, option + 2), Ok(FAST_OPEN_MAGIC)) => {
                options.present |= Options::FAST_OPEN;
            }
            _ => {}
        }
        at += length;
    }
    options
}

#[inline(always)]
fn forgotten(options: Options) -> Options {
    Options {
        ts_value: forget(options.ts_value.into()) as u32,
        ts_echo: forget(options.ts_echo.into()) as u32,
        mss: forget(options.mss.into()) as u16,
        window_shift: forget(options.window_shift.into()) as u8,
        present: forget(options.present.into()) as u8,
    }
}
