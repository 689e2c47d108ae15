//! How large the tables are, how full, and how much is measured.

pub struct Size {
    pub flows: u32,
    pub rounds: usize,
    pub max_flows: u32,
    pub max_half_open: u32,
    /// The cases of one hot flow.
    pub hot: bool,
    /// New flows, whole connections, a full table.
    pub new: bool,
}

/// The agent's own defaults.
pub const MAX_FLOWS: u32 = 262_144;
/// Room for the new flows of all rounds.
pub const MAX_HALF_OPEN: u32 = 131_072;

const THOUSAND: Size =
    Size { flows: 1_000, rounds: 21, max_flows: MAX_FLOWS, max_half_open: MAX_HALF_OPEN, hot: true, new: false };
const HUNDRED_THOUSAND: Size = Size { flows: 100_000, rounds: 15, hot: false, new: true, ..THOUSAND };
const MILLION: Size = Size { flows: 1_000_000, rounds: 9, max_flows: 1_500_000, hot: false, new: false, ..THOUSAND };

impl Size {
    pub const ALL: [Self; 3] = [THOUSAND, HUNDRED_THOUSAND, MILLION];
    pub const SHORT: [Self; 2] = [Self { rounds: 10, ..THOUSAND }, Self { rounds: 10, ..HUNDRED_THOUSAND }];

    /// New flows in each round: less than what its table takes, in all.
    pub fn new_flows(&self) -> u32 {
        MAX_HALF_OPEN / 4 * 3 / self.rounds as u32
    }
}
