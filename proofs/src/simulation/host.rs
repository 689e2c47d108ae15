//! One end: smoltcp's TCP under an application that does what the plan says.

use std::cell::Cell;

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::{Socket as AnySocket, tcp},
    time::{Duration, Instant},
    wire::{HardwareAddress, IpCidr},
};

use super::{
    packet,
    plan::{Action, HostPlan, MICROSECOND, MILLISECOND},
};

thread_local! {
    /// What timestamps are made of, in milliseconds: smoltcp takes a function without context.
    static CLOCK: Cell<u32> = const { Cell::new(0) };
}

/// The packet that comes in, and those that go out.
#[derive(Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
    mtu: usize,
}

struct Incoming(Vec<u8>);
struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut bytes = vec![0; len];
        let result = write(&mut bytes);
        self.0.push(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let incoming = self.incoming.take()?;
        Some((Incoming(incoming), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

pub struct Host {
    plan: HostPlan,
    peer: HostPlan,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    /// The connection's socket; a host of the simulation has one at a time. One that listens becomes it.
    connection: Option<SocketHandle>,
    listener: Option<SocketHandle>,
    /// How many connections there have been.
    pub connections: u32,
    /// By how much the host's own numbers are shifted on the wire; known from its first SYN on.
    shift: Option<u32>,
    to_send: u32,
    closes: bool,
    reads: bool,
    listens: bool,
}

impl Host {
    pub fn new(plan: HostPlan, peer: HostPlan) -> Self {
        let mut wire = Wire { mtu: if plan.addr.is_ipv4() { 600 } else { 1280 }, ..Wire::default() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = plan.seed;
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            let bits = if plan.addr.is_ipv4() { 32 } else { 128 };
            addrs.push(IpCidr::new(plan.addr.into(), bits)).expect("there is room for an address");
        });
        let mut host = Self {
            plan,
            peer,
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            connection: None,
            listener: None,
            connections: 0,
            shift: None,
            to_send: 0,
            closes: false,
            reads: true,
            listens: plan.listens,
        };
        host.listen();
        host
    }

    /// The state of the socket that has the tuple. One that only listens has no connection.
    pub fn state(&self) -> tcp::State {
        let closed_if_listens = |state| if state == tcp::State::Listen { tcp::State::Closed } else { state };
        self.connection
            .map_or(tcp::State::Closed, |handle| closed_if_listens(self.sockets.get::<tcp::Socket<'_>>(handle).state()))
    }

    /// Does what an application or the host's fate wants.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::Send(bytes) => self.to_send += bytes,
            Action::Pause => self.reads = false,
            Action::Resume => self.reads = true,
            Action::Close => self.closes = true,
            Action::Abort => {
                if let Some(handle) = self.connection {
                    self.sockets.get_mut::<tcp::Socket<'_>>(handle).abort();
                }
            }
            Action::Crash => {
                self.drop_connection();
                self.listen();
            }
            Action::Deafen => {
                self.listens = false;
                if let Some(handle) = self.listener.take() {
                    self.sockets.remove(handle);
                }
            }
            Action::Listen => {
                self.listens = true;
                self.listen();
            }
        }
    }

    fn connect(&mut self) {
        if !matches!(self.state(), tcp::State::Closed | tcp::State::TimeWait) {
            return;
        }
        self.drop_connection();
        let mut socket = self.socket();
        let (remote, local) = ((self.peer.addr, self.peer.port), (self.plan.addr, self.plan.port));
        socket.connect(self.interface.context(), remote, local).expect("a closed socket connects");
        self.connection = Some(self.sockets.add(socket));
        self.begin();
        self.arrange();
    }

    /// Puts the connection before the listener: the first socket that a segment could be for gets it.
    fn arrange(&mut self) {
        let [connection, listener] =
            [self.connection, self.listener].map(|handle| match self.sockets.remove(handle?) {
                AnySocket::Tcp(socket) => Some(socket),
            });
        self.connection = connection.map(|socket| self.sockets.add(socket));
        self.listener = listener.map(|socket| self.sockets.add(socket));
    }

    fn begin(&mut self) {
        self.connections += 1;
        (self.to_send, self.closes, self.reads) = (0, false, true);
    }

    fn drop_connection(&mut self) {
        if let Some(handle) = self.connection.take() {
            self.sockets.remove(handle);
        }
    }

    fn listen(&mut self) {
        if self.listens && self.listener.is_none() {
            let mut socket = self.socket();
            socket.listen(self.plan.port).expect("a closed socket listens");
            self.listener = Some(self.sockets.add(socket));
            self.arrange();
        }
    }

    fn socket(&self) -> tcp::Socket<'static> {
        let HostPlan { receive_bytes, send_bytes, .. } = self.plan;
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; receive_bytes]),
            tcp::SocketBuffer::new(vec![0; send_bytes]),
        );
        socket.set_nagle_enabled(self.plan.nagle);
        socket.set_ack_delay(self.plan.ack_delay_ms.map(Duration::from_millis));
        socket.set_keep_alive(self.plan.keep_alive_ms.map(Duration::from_millis));
        socket.set_timeout(self.plan.timeout_ms.map(Duration::from_millis));
        if self.plan.timestamps {
            socket.set_tsval_generator(Some(|| CLOCK.with(Cell::get)));
        }
        socket
    }

    /// Takes a packet in; what it answers at once goes out with the rest.
    pub fn receive(&mut self, bytes: &[u8], now_ns: u64) {
        let mut bytes = bytes.to_vec();
        packet::unshift_ack(&mut bytes, self.shift.unwrap_or(0));
        self.wire.incoming = Some(bytes);
        let now = set_clock(now_ns);
        self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        self.tidy();
    }

    /// A listener that was sent a SYN is the connection; a connection that is no more makes room for a listener.
    fn tidy(&mut self) {
        let is_over = |socket: &tcp::Socket<'_>| {
            matches!(socket.state(), tcp::State::Closed | tcp::State::Listen) && socket.remote_endpoint().is_none()
        };
        if self.connection.is_some_and(|handle| is_over(self.sockets.get(handle))) {
            self.drop_connection();
        }
        let was_asked = self.listener.filter(|&handle| !is_over(self.sockets.get(handle)));
        if was_asked.is_some() && self.connection.is_none() {
            (self.connection, self.listener) = (was_asked, None);
            self.begin();
        }
        self.listen();
    }

    /// What the application does of its own accord.
    pub fn attend(&mut self) {
        let Some(handle) = self.connection else {
            return;
        };
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        while self.reads && socket.can_recv() {
            let read = socket.recv(|bytes| (bytes.len(), bytes.len()));
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
        if self.to_send > 0 && socket.may_send() {
            let bytes = [0x2e; 1024];
            while self.to_send > 0 {
                let least = bytes.len().min(self.to_send as usize);
                match socket.send_slice(&bytes[..least]) {
                    Ok(sent @ 1..) => self.to_send -= sent as u32,
                    Ok(0) | Err(_) => break,
                }
            }
        }
        let answers = self.plan.answers_close && socket.state() == tcp::State::CloseWait;
        // smoltcp takes the acknowledgement of its SYN for one of a FIN that was asked for before it came; an
        // application has its connection when the handshake is over, and closes it then.
        if (self.closes || answers) && self.to_send == 0 && socket.state() != tcp::State::SynReceived {
            socket.close();
        }
    }

    /// Lets the socket send, one packet at most, and gives back what goes out now.
    pub fn send(&mut self, now_ns: u64) -> Vec<Vec<u8>> {
        let now = set_clock(now_ns);
        if self.wire.outgoing.is_empty() {
            self.interface.poll_egress(now, &mut self.wire, &mut self.sockets);
            self.tidy();
        }
        let mut outgoing = std::mem::take(&mut self.wire.outgoing);
        for bytes in &mut outgoing {
            let header = packet::header(bytes);
            if header.syn && self.shift.is_none() {
                self.shift = Some(self.plan.isn.wrapping_sub(header.seq));
            }
            packet::shift_seq(bytes, self.shift.unwrap_or(0));
        }
        outgoing
    }

    /// When the socket wants to be asked again, if nothing comes before.
    pub fn wakes_at_ns(&mut self, now_ns: u64) -> Option<u64> {
        let now = set_clock(now_ns);
        let at = self.interface.poll_at(now, &self.sockets)?;
        Some(at.total_micros() as u64 * MICROSECOND)
    }

    /// Whether the connection's socket has data that it has not sent, or that was not acknowledged.
    pub fn send_queue(&self) -> usize {
        self.connection.map_or(0, |handle| match self.sockets.iter().find(|(found, _)| *found == handle) {
            Some((_, AnySocket::Tcp(socket))) => socket.send_queue(),
            None => 0,
        })
    }
}

fn set_clock(now_ns: u64) -> Instant {
    // Not zero, which stands for no timestamp.
    CLOCK.with(|clock| clock.set((now_ns / MILLISECOND) as u32 + 1));
    Instant::from_micros((now_ns / MICROSECOND) as i64)
}
