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

const THOUSAND: Size = Size { rounds: 21, hot: true, ..Size::new(1_000, MAX_FLOWS) };
const HUNDRED_THOUSAND: Size = Size { rounds: 15, new: true, ..Size::new(100_000, MAX_FLOWS) };
const MILLION: Size = Size { rounds: 9, ..Size::new(1_000_000, 1_500_000) };

impl Size {
    pub const fn new(flows: u32, max_flows: u32) -> Self {
        Self { flows, rounds: 0, max_flows, max_half_open: MAX_HALF_OPEN, hot: false, new: false }
    }

    pub const ALL: [Self; 3] = [THOUSAND, HUNDRED_THOUSAND, MILLION];
    pub const SHORT: [Self; 2] = [Self { rounds: 10, ..THOUSAND }, Self { rounds: 10, ..HUNDRED_THOUSAND }];

    /// New flows in each round: less than what its table takes, in all.
    pub fn new_flows(&self) -> u32 {
        MAX_HALF_OPEN / 4 * 3 / self.rounds as u32
    }
}
