//! TCP options, of which a SYN's window scale is needed (<https://www.rfc-editor.org/rfc/rfc7323#section-2.2>).

use super::load_u8;
use crate::frame::Frame;

const MAX_OPTION_BYTES: usize = 40;
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
    // Each turn takes at least a byte, so that forty of them see every option; the verifier needs the constant.
    let mut turns = 0;
    while turns < MAX_OPTION_BYTES {
        turns += 1;
        if at >= options_bytes || at >= MAX_OPTION_BYTES {
            return None;
        }
        match load_u8(frame, offset + at).ok()? {
            END => return None,
            NO_OPERATION => at += 1,
            kind => {
                let length = usize::from(load_u8(frame, offset + at + 1).ok()?);
                if length < 2 || at + length > options_bytes {
                    return None;
                }
                if kind == WINDOW_SCALE && length == 3 {
                    let shift = load_u8(frame, offset + at + 2).ok()?;
                    return Some(if shift < MAX_SHIFT { shift } else { MAX_SHIFT });
                }
                at += length;
            }
        }
    }
    None
}
