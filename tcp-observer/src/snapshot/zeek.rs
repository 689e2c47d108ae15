//! Zeek's `conn_state` of a connection, derived from its history.
//!
//! Who may read Zeek's logs may read ours: the label is the one that Zeek gives with checksums ignored. The states of
//! the two ends follow `src/packet_analysis/protocol/tcp/TCPSessionAdapter.cc` (`UpdateInactiveState` to
//! `UpdateResetState`) and the labels `scripts/base/protocols/conn/main.zeek`, both of zeek/zeek. They are Zeek's states
//! and not RFC 9293's: no number is checked, and the responder's SYN establishes both ends.
//!
//! A letter is not recorded for every packet, but a packet without one hardly ever moves a state (the exceptions are
//! named at [`step`]), so the letters are enough. Where a history was cut off, the letters of FIN and RST are still in
//! it: the core keeps room for those that come for the first time.
//!
//! Zeek's `^` (the roles were swapped) does not occur: the roles are ours. Nor does it matter to the label, with one
//! exception: a connection that begins with its SYN-ACK is `S1` here once the originator has acknowledged it, and
//! depending on how Zeek came to its roles `S1` or `OTH` there.

use tcp_observer_common::conn::{Letter, Role};

/// `EndpointState` of `src/analyzer/protocol/tcp/TCP_Endpoint.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndpointState {
    Inactive,
    SynSent,
    SynAckSent,
    Partial,
    Established,
    Closed,
    Reset,
}

/// Zeek's word for how a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnState {
    /// A SYN without an answer.
    S0,
    /// Established, and not over.
    S1,
    /// Established and over, with a FIN of each end.
    Sf,
    /// The SYN was rejected.
    Rej,
    /// Established, and only the originator has closed.
    S2,
    /// Established, and only the responder has closed.
    S3,
    /// Established, and reset by the originator.
    Rsto,
    /// Reset by the responder.
    Rstr,
    /// A SYN and then a RST of the originator, the responder silent.
    Rstos0,
    /// A SYN-ACK and then a RST of the responder, no SYN of the originator.
    Rstrh,
    /// A SYN and then a FIN of the originator, the responder silent.
    Sh,
    /// A SYN-ACK and then a FIN of the responder, no SYN of the originator.
    Shr,
    /// Anything else: no SYN seen, for one.
    Oth,
}

impl ConnState {
    pub const ALL: [Self; 13] = [
        Self::S0,
        Self::S1,
        Self::Sf,
        Self::Rej,
        Self::S2,
        Self::S3,
        Self::Rsto,
        Self::Rstr,
        Self::Rstos0,
        Self::Rstrh,
        Self::Sh,
        Self::Shr,
        Self::Oth,
    ];

    /// The word as Zeek writes it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::S0 => "S0",
            Self::S1 => "S1",
            Self::Sf => "SF",
            Self::Rej => "REJ",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::Rsto => "RSTO",
            Self::Rstr => "RSTR",
            Self::Rstos0 => "RSTOS0",
            Self::Rstrh => "RSTRH",
            Self::Sh => "SH",
            Self::Shr => "SHR",
            Self::Oth => "OTH",
        }
    }
}

#[derive(Clone, Copy)]
struct Endpoint {
    state: EndpointState,
    /// The state before the last change: Zeek asks whether a reset endpoint had sent its FIN before.
    previous: EndpointState,
}

impl Endpoint {
    const NEW: Endpoint = Endpoint { state: EndpointState::Inactive, previous: EndpointState::Inactive };

    fn set(&mut self, state: EndpointState) {
        if state != self.state {
            self.previous = self.state;
            self.state = state;
        }
    }

    fn has_no_handshake(self) -> bool {
        matches!(self.state, EndpointState::Inactive | EndpointState::Partial)
    }
}

/// One packet, known by its letter, moves the states of its sender (`own`) and of the other end (`peer`).
///
/// Not exact where the letter does not tell the flags:
/// - `Q` is taken as SYN+FIN (SYN+RST would reset instead), `I` as FIN+RST without SYN,
///   `D` as carrying ACK;
/// - a second `Q` or `I` of one sender has no letter, yet could move a closed sender to reset;
/// - a packet with neither flags nor payload has no letter, yet makes its sender partial.
fn step(sender: Role, letter: Letter, own: &mut Endpoint, peer: &mut Endpoint) {
    use EndpointState::*;
    match own.state {
        Inactive => match letter {
            Letter::Syn | Letter::SynAck | Letter::MultiFlag => {
                if sender == Role::Originator {
                    own.set(if letter == Letter::SynAck { SynAckSent } else { SynSent });
                } else {
                    // The responder's SYN establishes both ends, whether it carries ACK or not
                    // (simultaneous open). A SYN of the responder after a SYN-ACK of the
                    // originator is a reversed handshake: Zeek swaps the roles and takes both
                    // as established. Without a known SYN the originator stays inactive.
                    let reversed = letter == Letter::Syn && peer.state == SynAckSent;
                    if peer.state == SynSent || reversed {
                        peer.set(Established);
                    }
                    own.set(Established);
                }
                if letter == Letter::MultiFlag {
                    own.set(Closed);
                }
            }
            Letter::Fin => own.set(Closed),
            Letter::Rst => own.set(Reset),
            Letter::Inconsistent => {
                own.set(Closed);
                own.set(Reset);
            }
            Letter::Ack | Letter::Data => {
                // A pure ACK that answers the SYN comes from odd stacks before their SYN-ACK:
                // Zeek does not let it make the connection a partial one.
                let early_ack = sender == Role::Responder && letter == Letter::Ack && peer.state == SynSent;
                if !early_ack {
                    // With an established peer only the SYN was missed, not its SYN-ACK.
                    let missed_syn = peer.state == Established;
                    own.set(if missed_syn { Established } else { Partial });
                }
            }
            Letter::Retransmission | Letter::ZeroWindow => {}
        },
        SynSent | SynAckSent => match letter {
            Letter::Fin | Letter::MultiFlag => own.set(Closed),
            Letter::Rst => own.set(Reset),
            Letter::Inconsistent => {
                own.set(Closed);
                own.set(Reset);
            }
            _ => {}
        },
        Established | Partial => match letter {
            Letter::Syn if own.state == Partial && peer.state == Inactive => own.set(SynSent),
            Letter::Fin | Letter::MultiFlag => {
                own.set(Closed);
                // FIN then RST of the peer, answered by a FIN, was a normal end after all.
                if peer.state == Reset && peer.previous == Closed {
                    peer.set(Closed);
                }
            }
            Letter::Rst | Letter::Inconsistent => own.set(Reset),
            _ => {}
        },
        Closed => match letter {
            // After FINs of both ends a RST changes nothing.
            Letter::Rst | Letter::Inconsistent if peer.state != Closed => own.set(Reset),
            _ => {}
        },
        Reset => {}
    }
}

fn endpoints(history: impl Iterator<Item = (Role, Letter)>) -> (Endpoint, Endpoint) {
    let mut originator = Endpoint::NEW;
    let mut responder = Endpoint::NEW;
    for (sender, letter) in history {
        match sender {
            Role::Originator => step(sender, letter, &mut originator, &mut responder),
            Role::Responder => step(sender, letter, &mut responder, &mut originator),
        }
    }
    (originator, responder)
}

/// Zeek's expression for RSTOS0, `\^?S[^HAFGIQ]*R.*` over the whole history: it begins with the
/// originator's SYN, and no H, A, F, I or Q of the originator comes before its first RST.
/// Letters of the responder do not matter.
fn is_syn_then_reset(mut history: impl Iterator<Item = (Role, Letter)>) -> bool {
    if history.next() != Some((Role::Originator, Letter::Syn)) {
        return false;
    }
    for (sender, letter) in history {
        if sender == Role::Originator {
            match letter {
                Letter::Rst => return true,
                Letter::SynAck | Letter::Ack | Letter::Fin | Letter::Inconsistent | Letter::MultiFlag => return false,
                _ => {}
            }
        }
    }
    false
}

/// `conn_state` of `scripts/base/protocols/conn/main.zeek`. The byte counts (stream payload by
/// sequence numbers, not counting retransmissions) decide only whether two resets are a rejection.
pub fn conn_state(
    history: impl Iterator<Item = (Role, Letter)> + Clone,
    originator_bytes: u64,
    responder_bytes: u64,
) -> ConnState {
    use EndpointState::*;
    let (originator, responder) = endpoints(history.clone());
    match (originator.state, responder.state) {
        (SynSent | SynAckSent, Reset) => ConnState::Rej,
        (Reset, Reset) if originator_bytes == 0 && responder_bytes == 0 => ConnState::Rej,
        (_, Reset) if originator.has_no_handshake() => ConnState::Rstrh,
        (_, Reset) => ConnState::Rstr,
        (Reset, _) if !responder.has_no_handshake() => ConnState::Rsto,
        (Reset, _) if is_syn_then_reset(history) => ConnState::Rstos0,
        (Reset, _) => ConnState::Oth,
        (Closed, Closed) => ConnState::Sf,
        (Closed, _) if responder.has_no_handshake() => ConnState::Sh,
        (Closed, _) => ConnState::S2,
        (_, Closed) if originator.has_no_handshake() => ConnState::Shr,
        (_, Closed) => ConnState::S3,
        (SynSent, Inactive) => ConnState::S0,
        (Established, Established) => ConnState::S1,
        _ => ConnState::Oth,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zeek's text to letters. `^`, `X`, `C` and `G` move no state, so they are left out.
    /// Letters before a `^` in the middle still have the case of the roles before the flip.
    fn parse(history: &str) -> Vec<(Role, Letter)> {
        let mut letters = Vec::new();
        for c in history.chars() {
            let letter = match c.to_ascii_uppercase() {
                'S' => Letter::Syn,
                'H' => Letter::SynAck,
                'A' => Letter::Ack,
                'D' => Letter::Data,
                'F' => Letter::Fin,
                'R' => Letter::Rst,
                'I' => Letter::Inconsistent,
                'Q' => Letter::MultiFlag,
                'T' => Letter::Retransmission,
                'W' => Letter::ZeroWindow,
                '^' => {
                    for (sender, _) in &mut letters {
                        *sender = match *sender {
                            Role::Originator => Role::Responder,
                            Role::Responder => Role::Originator,
                        };
                    }
                    continue;
                }
                _ => continue,
            };
            let sender = if c.is_ascii_uppercase() { Role::Originator } else { Role::Responder };
            letters.push((sender, letter));
        }
        letters
    }

    fn label(history: &str, originator_bytes: u64, responder_bytes: u64) -> &'static str {
        conn_state(parse(history).into_iter(), originator_bytes, responder_bytes).label()
    }

    /// History, label and the bytes of each end, of TCP rows in Zeek's own baselines (zeek/zeek at a13de64f,
    /// `testing/btest/Baseline`), and of what Zeek says of two captures without a baseline.
    const BASELINES: &[(&str, &str, u64, u64)] = &[
        ("C", "OTH", 0, 0),                  // core.checksums_ignore_nets/conn-failed.log
        ("D", "OTH", 0, 0),                  // core.expire-all-timers/conn-all.log
        ("Da", "OTH", 18, 0),                // core.expire-all-timers/conn-all.log
        ("DaT", "OTH", 18, 0),               // core.expire-all-timers/conn-limited.log
        ("Dd", "OTH", 3963, 400107),         // scripts.base.protocols.ldap.sasl-signed-clear/conn.log
        ("DdA", "OTH", 463, 350),            // core.tcp.rxmit-history/conn-2.log
        ("H", "OTH", 0, 0),                  // scripts.base.frameworks.logging.field-extension-complex/conn.log
        ("R", "OTH", 0, 0),                  // core.tunnels.teredo/conn.log
        ("^d", "OTH", 0, 0),                 // core.mpls-in-vlan/conn.log
        ("^h", "OTH", 0, 0),                 // core.tcp.rxmit-history/conn-2.log
        ("Sr", "REJ", 0, 0),                 // scripts.base.protocols.pop3.basic/conn.log
        ("ShADaGdgtR", "RSTO", 474, 23783),  // core.tcp.rxmit-history/conn-1.log
        ("ShADadFR", "RSTO", 683, 3002),     // scripts.base.protocols.ldap.starttls/conn.log
        ("ShADadR", "RSTO", 790, 171),       // core.tunnels.teredo/conn.log
        ("ShADadfR", "RSTO", 517, 468), // scripts.base.frameworks.analyzer.request-response-protocol-differences/conn-https-to-http.log
        ("ShADdR", "RSTO", 258, 188),   // scripts.base.protocols.ldap.attributes/conn.log
        ("ShAdDaFR", "RSTO", 20, 253),  // scripts.base.protocols.pop3.bad-list-retr-crafted/conn.log
        ("ShR", "RSTO", 0, 0),          // scripts.base.protocols.modbus.modbus_and_non_modbus_on_port_502/conn.log
        ("SR", "RSTOS0", 0, 0),         // zeek--tcp--syn-then-rst.pcap
        ("SaR", "RSTOS0", 0, 0),        // zeek--tcp--syn-then-ack-then-rst.pcap
        ("ShADadFr", "RSTR", 75, 78), // scripts.base.frameworks.analyzer.request-response-protocol-differences/conn-http-to-ssh.log
        ("ShADdFar", "RSTR", 93, 283), // scripts.base.protocols.ldap.spnego-ntlmssp/conn.log
        ("ShADdar", "RSTR", 3046, 90400), // scripts.base.protocols.ldap.sasl-signed-clear-2/conn.log
        ("ShAdDafr", "RSTR", 1133, 3314), // scripts.base.protocols.ftp.ftp-auth-tls/conn.log
        ("Dr", "RSTRH", 109, 0),      // scripts.base.protocols.modbus.modbus_and_non_modbus_on_port_502/conn.log
        ("^r", "RSTRH", 0, 0),        // core.tunnels.teredo/conn.log
        ("S", "S0", 0, 0),            // core.cisco-fabric-path/conn.log
        ("SAD", "S0", 120, 0),        // scripts.base.frameworks.logging.field-name-map2/conn.log
        ("Sh", "S1", 0, 0),           // scripts.base.frameworks.netcontrol.packetfilter/conn.log
        ("ShADad", "S1", 1148, 734),  // core.pcap.read-trace-with-filter/conn.log
        ("ShADd", "S1", 1814, 2391),  // scripts.base.protocols.ldap.sasl-encrypted/conn.log
        ("ShAaDd", "S1", 3644, 55499), // scripts.base.protocols.http.http-connect-with-header/conn.log
        ("ShAdDaGg", "S1", 41420, 159830), // scripts.base.protocols.ftp.cwd-navigation/conn.log
        ("^hADd", "S1", 110, 90),     // scripts.base.protocols.krb.krb-service-name/conn.log
        ("ShADdaF", "S2", 237936, 4121200), // scripts.base.protocols.modbus.events/conn-first.log
        ("ShADadXf", "S3", 1138, 63424), // core.tunnels.gtp.different_dl_and_ul/conn.log
        ("ShADdf", "S3", 112, 138),   // scripts.base.protocols.modbus.events/conn-first.log
        ("DaFfA", "SF", 76, 0),       // scripts.base.protocols.ssh.basic/conn.log
        ("FafA", "SF", 0, 0),         // scripts.base.protocols.modbus.events/conn-first.log
        ("ShADFaf", "SF", 209, 0),    // core.pbb/conn.log
        ("ShADaFf", "SF", 342, 0),    // scripts.base.protocols.ftp.ftp-ipv4/conn.log
        ("ShADadFRf", "SF", 913, 1903), // scripts.base.protocols.irc.starttls/conn.log
        ("ShADadFf", "SF", 74, 432),  // core.checksums_ignore_nets/conn-worked-multi-subnets.log
        ("ShADadfF", "SF", 9, 3429),  // core.print-bpf-filters/conn.log
        ("ShADadfFr", "SF", 676, 4678), // scripts.base.protocols.xmpp.starttls/conn.log
        ("ShADadfgF", "SF", 2100, 56702), // core.tunnels.gtp.outer_ip_frag/conn.log
        ("ShADadtFf", "SF", 111, 10284), // scripts.base.protocols.http.concurrent-range-requests/conn.log
        ("ShADadtTfF", "SF", 1685, 223), // scripts.base.protocols.http.http-connect/conn.log
        ("ShADafF", "SF", 926, 0),    // scripts.base.protocols.modbus.events/conn-first.log
        ("ShADafgF", "SF", 538, 2902), // core.tcp.miss-end-data/conn.log
        ("ShADdFaf", "SF", 98, 9417), // core.vlan-mpls/conn.log
        ("ShADdaFf", "SF", 2885, 2309), // scripts.base.protocols.ssh.basic/conn.log
        ("ShADdtaTTtFf", "SF", 11352, 4984), // core.pppoe-over-qinq/conn.log
        ("ShAaDdfF", "SF", 22, 10),   // scripts.base.protocols.irc.basic/conn.log
        ("ShAadDfF", "SF", 352, 1320211), // scripts.base.protocols.irc.basic/conn.log
        ("ShAadDfFr", "SF", 851, 2590), // scripts.base.protocols.pop3.starttls/conn.log
        ("ShAdDaFf", "SF", 2405, 2887), // spicy.replaces/conn.log
        ("ShAdDaXFf", "SF", 358, 313), // scripts.base.protocols.ftp.ftp-max-command-length/conn.log
        ("ShAdDafF", "SF", 12, 175),  // scripts.base.protocols.pop3.basic/conn.log
        ("ShAdDafFr", "SF", 540, 5653), // scripts.base.protocols.imap.starttls/conn.log
        ("ShAdDfFa", "SF", 180, 3146), // scripts.base.protocols.ftp.ftp-ipv4/conn.log
        ("ShAdfFa", "SF", 0, 270),    // core.tcp.large-file-reassembly/conn.log
        ("ShAdgfFa", "SF", 0, 5416666670), // core.tcp.large-file-reassembly/conn.log
        ("^hADadFf", "SF", 5958, 182), // core.local-flip/conn.log
        ("^hADdFaf", "SF", 98, 9417), // core.history-flip/conn.log
        ("ADF", "SH", 104, 0),        // scripts.base.protocols.ssh.half-duplex-client/conn.log
        ("DAF", "SH", 176, 0),        // scripts.base.protocols.ssh.half-duplex-client/conn.log
        ("Fa", "SH", 0, 0),           // core.tunnels.teredo/conn.log
        ("HcADF", "SH", 432, 0),      // core.checksums_ignore_nets/conn-failed.log
        ("SADF", "SH", 26, 0),        // core.vlan-mpls/conn.log
        ("^fA", "SHR", 0, 0),         // core.tunnels.teredo/conn.log
        ("^hadf", "SHR", 0, 3489),    // scripts.base.protocols.ssh.half-duplex-server/conn.log
        ("^hdaf", "SHR", 0, 2501),    // scripts.base.protocols.ssh.half-duplex-server/conn.log
    ];

    #[test]
    fn zeek_baselines() {
        let mut wrong = Vec::new();
        for &(history, expected, orig, resp) in BASELINES {
            let got = label(history, orig, resp);
            if got != expected {
                wrong.push((history, expected, got));
            }
        }
        assert!(wrong.is_empty(), "{:?}", wrong);
    }

    /// What main.zeek and TCPSessionAdapter.cc say where no baseline does.
    #[test]
    fn from_the_source() {
        for (history, bytes, expected) in [
            ("", 0, "OTH"),
            ("SrR", 0, "REJ"),     // both reset, no bytes
            ("ShADrR", 5, "RSTR"), // both reset, bytes
            ("ShRr", 0, "REJ"),    // both reset, no bytes, in spite of the handshake
            ("STdR", 4, "RSTOS0"), // data of the SYN and of the responder do not matter
            ("SAR", 0, "OTH"),     // the originator's ACK does
            ("Ss", 0, "S1"),       // simultaneous open
            ("Hs", 0, "S1"),       // reversed handshake
            ("hA", 0, "S1"),       // SYN missed
            ("hS", 0, "OTH"),      // SYN after SYN-ACK with known roles: SYN_SENT stays
            ("SF", 0, "SH"),
            ("ShF", 0, "S2"),
            ("hF", 0, "S2"),
            ("hf", 0, "SHR"),
            ("hr", 0, "RSTRH"),
            ("hR", 0, "RSTO"),
            ("ShADadFRf", 1, "SF"), // RST after own FIN, then the peer's FIN
            ("ShADadFRr", 1, "RSTR"),
            ("ShADadFfRr", 1, "SF"), // RST after both FINs
            ("ShQ", 0, "S2"),
            ("ShI", 0, "RSTO"),
            ("DS", 1, "S0"), // SYN after partial
            ("Sd", 0, "OTH"),
            ("Sa", 0, "S0"),
            ("Srh", 0, "REJ"),
        ] {
            assert_eq!(label(history, bytes, 0), expected, "{}", history);
        }
    }
}
