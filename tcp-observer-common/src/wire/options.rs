//! TCP options, of which a SYN's window scale is needed (<https://www.rfc-editor.org/rfc/rfc7323#section-2.2>).

use super::{forget_offset, load_bytes};
use crate::frame::Frame;

/// How many options are looked at. No stack's SYN has more than seven, padding included.
const MAX_OPTIONS: usize = 12;
const HEADER_BYTES: usize = 20;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
/// The greatest shift; larger ones count as this one (RFC 7323, section 2.3).
const MAX_SHIFT: u8 = 14;

/// The shift of the window scale option among the options that start at `offset` and end with the header, which is
/// `header_bytes` long. Options that are torn or lie about their length end the search: the segment still counts.
#[inline(always)]
pub(super) fn window_shift<F: Frame + ?Sized>(frame: &F, offset: usize, header_bytes: usize) -> Option<u8> {
    let options_bytes = header_bytes.saturating_sub(HEADER_BYTES);
    let mut at = 0;
    let mut options = 0;
    while options < MAX_OPTIONS {
        options += 1;
        if at >= options_bytes {
            return None;
        }
        let option = forget_offset(offset + at);
        // An option of a single byte, at the very end, is not the one that is looked for.
        let [kind, length] = load_bytes(frame, option).ok()?;
        match kind {
            END => return None,
            NO_OPERATION => at += 1,
            _ => {
                let length = usize::from(length);
                if length < 2 || at + length > options_bytes {
                    return None;
                }
                if kind == WINDOW_SCALE && length == 3 {
                    let [_, shift] = load_bytes(frame, option + 1).ok()?;
                    return Some(if shift < MAX_SHIFT { shift } else { MAX_SHIFT });
                }
                at += length;
            }
        }
    }
    None
}
