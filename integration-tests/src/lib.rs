//! What the kernel tests are made of: network namespaces, an agent in one of them, traffic, and witnesses.
//!
//! The tests need root and leave nothing behind. Everything happens in network namespaces of their own; no interface
//! of the machine is touched. What is expected comes from `ss`, `TCP_INFO`, `tcpdump` or from counting by hand, never
//! from the observer's own output.
//!
//! Nothing here may wait for ever: commands, sockets and conditions each have a limit ([`run`], [`wait`]), and a test
//! as a whole has one too ([`bounds::bounded`]).

pub mod agent;
pub mod asm;
pub mod bounds;
pub mod bpf;
pub mod capture;
pub mod cpu;
pub mod interface;
pub mod kernel;
pub mod link;
pub mod metrics;
pub mod namespace;
pub mod netstat;
pub mod object;
pub mod pair;
pub mod pinned;
pub mod process;
pub mod random;
pub mod run;
pub mod scene;
pub mod set_state;
pub mod ss;
pub mod stack;
pub mod synthetic;
pub mod tables;
pub mod tcp_info;
pub mod test_run;
pub mod traffic;
pub mod untouched;
pub mod wait;

pub use proofs::frames;

/// The things most tests use.
pub mod prelude {
    pub use crate::{
        agent::Agent,
        bounds::bounded,
        metrics::Metrics,
        namespace::Namespace,
        pair::{Family, Pair},
        scene::{EITHER_END, IngressMode, Scene, Side, at_once},
        ss::{self, Socket},
        traffic::{Connection, Listener},
        wait::{SOON, wait_until},
    };
}
