//! What is wrong with a capture that could be analysed in part.
//!
//! A fault is no reason to show nothing: most torn captures come from a capturing program that was killed, and all
//! but the last record is good.

use std::fmt;

use super::input::Input;

/// Why a replay does not tell all that is in one of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub input: Input,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a capture. Offsets count bytes from the file's beginning, as it is unpacked where it
/// is packed and nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file ends within the record that begins there.
    Truncated { offset: u64 },
    /// The record that begins there contradicts itself.
    Corrupt { offset: u64, reason: &'static str },
    /// The file could not be read beyond this.
    Unreadable { offset: u64 },
    /// The packed file ends there, and what it holds does not.
    TornGzip { offset: u64 },
    /// The packed file makes no sense around there.
    CorruptGzip { offset: u64 },
    /// Packets of a link type that nobody here can read.
    UnknownLink { link: u16, packets: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.input)?;
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { offset } => {
                write!(f, "the file ends within the record at byte {offset}; what came before it was analysed")
            }
            Self::Corrupt { offset, reason } => {
                write!(f, "the record at byte {offset} is corrupt ({reason}); what came before it was analysed")
            }
            Self::Unreadable { offset } => {
                write!(f, "the file cannot be read beyond byte {offset}; what came before it was analysed")
            }
            Self::TornGzip { offset } => {
                write!(f, "its gzip stream is cut off at byte {offset}; what came before it was analysed")
            }
            Self::CorruptGzip { offset } => {
                write!(f, "its gzip stream is corrupt at byte {offset}; what came before it was analysed")
            }
            Self::UnknownLink { link, packets } => write!(
                f,
                "{packets} packets of link type {link}{} were skipped; README.md lists those that can be read",
                name(*link)
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// The link types that are met most among those that carry no TCP that could be read here
/// (<https://www.tcpdump.org/linktypes.html>).
const fn name(link: u16) -> &'static str {
    match link {
        187 => " (Bluetooth)",
        189 => " (USB)",
        227 => " (CAN)",
        231 => " (D-Bus)",
        249 => " (USBPcap)",
        253 => " (netlink)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_the_file_and_each_problem() {
        let fault = Fault {
            input: Input::File("dir/x.pcapng".into()),
            problems: vec![Problem::UnknownLink { link: 231, packets: 3 }, Problem::Truncated { offset: 40 }],
        };
        assert_eq!(
            fault.to_string(),
            "`dir/x.pcapng`: 3 packets of link type 231 (D-Bus) were skipped; README.md lists those that can be read; the \
             file ends within the record at byte 40; what came before it was analysed"
        );
    }
}
