//! Connections that are open during the whole soak, in states that last, and others that are brought at its end into
//! those that do not.

use std::net::{Shutdown, SocketAddr, TcpStream};

use integration_tests::{
    namespace::Namespace,
    pair::Family,
    traffic::{Connection, Listener, begin_connect},
};

use crate::stage::Stage;

const PORT: u16 = 8081;
/// From here the host's answers are lost, once the load has ended.
const LOSSY_PORT: u16 = 8088;

pub struct Kept {
    _connections: Vec<Connection>,
    /// Towards a client that will not hear the host any more.
    lossy: Vec<(Listener, Connection, Connection)>,
    moments: Vec<TcpStream>,
}

impl Kept {
    /// On each way and over each family one that is established, one whose client has closed, one whose server has.
    pub fn open(stage: &Stage) -> Self {
        let mut connections = Vec::new();
        let mut open = |from: &Namespace, to: &Namespace, addr: SocketAddr| {
            let listener = Listener::new(to, addr);
            let three: [_; 3] = std::array::from_fn(|_| Connection::open(from, &listener));
            shut(&three[1].client);
            shut(&three[2].server);
            connections.extend(three);
        };
        for family in Family::BOTH {
            open(&stage.client, &stage.host, (family.host(2), PORT).into());
            open(&stage.host, &stage.client, (family.host(1), PORT).into());
            open(&stage.host, &stage.host, (family.loopback(), PORT).into());
        }
        let lossy = Family::BOTH.map(|family| {
            let listener = Listener::new(&stage.host, (family.host(2), LOSSY_PORT).into());
            let [open, half_closed] = [(), ()].map(|()| Connection::open(&stage.client, &listener));
            shut(&half_closed.client);
            (listener, open, half_closed)
        });
        Self { _connections: connections, lossy: lossy.into(), moments: Vec::new() }
    }

    /// Begins what the kernel will repeat for a while: FIN_WAIT_1, LAST_ACK, SYN_RECV and SYN_SENT in the host.
    pub fn begin_moments(&mut self, stage: &Stage) {
        stage.host.sysctl("ipv4/tcp_syn_retries", "6");
        let mut moments = Vec::new();
        stage.client.filter("input", &format!("tcp sport {LOSSY_PORT} drop"));
        for (listener, open, half_closed) in &self.lossy {
            shut(&open.server);
            shut(&half_closed.server);
            moments.push(begin_connect(&stage.client, listener.addr()));
        }
        moments.extend(Family::BOTH.map(|family| begin_connect(&stage.host, (family.host(77), 80).into())));
        self.moments = moments;
    }
}

fn shut(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("a connected socket can be shut down");
}
