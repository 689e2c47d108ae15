//! The sockets' changes and the observer's, made comparable.
//!
//! The observer speaks of a connection's states, the tracepoint of one structure's (`sk_state`). They differ where the
//! structure does:
//!
//! - A handshake that comes in has no socket before its last ACK (or the SYN of a Fast Open), but a request
//!   (NEW_SYN_RECV), which the tracepoint does not tell of: there is no account of an attempt that fails. The socket is a
//!   copy of the listener's, hence `listen → syn_received` at its beginning. `listen` is also the observer's word for an
//!   end that has not answered.
//! - TIME_WAIT is a minisock. A socket that is closed and held by nobody is replaced by one as soon as it is in
//!   FIN_WAIT2 (`tcp_rcv_state_process`: `tcp_time_wait(sk, TCP_FIN_WAIT2, …)`), else when it would go on to TIME_WAIT
//!   (`tcp_fin`, and `TCP_CLOSING`). Its account ends there with `closed`; what comes after belongs to the minisock.
//! - One segment can do two things (RFC 9293, 3.10.7.4: fifth check ACK, eighth FIN). The socket tells of both, the
//!   observer has one event.
//! - A socket that gives up connecting says nothing on the wire.

/// What one segment does in two steps: before, between, after.
const AT_ONCE: &[(&str, &str, &str)] = &[
    // The handshake's last ACK is or brings a FIN.
    ("syn_sent", "established", "fin_wait_1"),
    ("syn_received", "established", "fin_wait_1"),
    ("syn_sent", "established", "close_wait"),
    ("syn_received", "established", "close_wait"),
    // The peer's FIN acknowledges ours.
    ("fin_wait_1", "fin_wait_2", "time_wait"),
    // A FIN says that the peer's, beyond a gap by all that was seen, has arrived.
    ("established", "close_wait", "last_ack"),
];

/// Whether the states that a socket says it went through are those that were observed.
pub fn agree(kernel: &[&str], observed: &[String]) -> bool {
    let mut observed: Vec<&str> = observed.iter().map(String::as_str).collect();
    if observed.first() == Some(&"listen") {
        observed.remove(0);
    }
    let kernel = kernel.strip_prefix(&["listen"]).unwrap_or(kernel);
    let (kernel, is_closed) = match kernel {
        [before @ .., "closed"] => (before, true),
        whole => (whole, false),
    };
    let mut next = 0;
    for &state in kernel {
        let at_once = |before: &&str| observed.get(next).is_some_and(|after| AT_ONCE.contains(&(before, state, after)));
        match observed.get(next) {
            Some(&seen) if seen == state => next += 1,
            _ if next > 0 && at_once(&observed[next - 1]) => {}
            _ => return false,
        }
    }
    let rest = &observed[next..];
    match (kernel.last(), is_closed) {
        (_, false) => rest.is_empty(),
        (Some(&("fin_wait_2" | "closing")), true) => {
            matches!(rest, [] | ["closed"] | ["time_wait"] | ["time_wait", "closed"])
        }
        (Some(&"syn_sent"), true) => matches!(rest, [] | ["closed"]),
        (_, true) => rest == ["closed"],
    }
}

/// Whether the two agree but for a FIN that the socket held back: it has closed, and its FIN waits behind data that
/// the network or the window does not take, while the peer's FIN arrives. The socket goes on to CLOSING; on the wire the
/// peer closes first, and only the end in TIME_WAIT is another. docs/semantics.md has it among what packets cannot tell.
pub fn agree_but_for_a_fin_held_back(kernel: &[&str], observed: &[String]) -> bool {
    // Or a RST does, and the FIN is never sent.
    if let [before @ .., "fin_wait_1" | "last_ack", "closed"] = kernel {
        return agree(&[before, &["closed"]].concat(), observed);
    }
    let Some(at) = kernel.windows(2).position(|pair| pair == ["fin_wait_1", "closing"]) else { return false };
    let (before, after) = (&kernel[..at], &kernel[at + 2..]);
    let as_if = |seen: &[&'static str]| agree(&[before, seen, after].concat(), observed);
    as_if(&["close_wait"]) || as_if(&["close_wait", "last_ack"])
}

/// Whether the two agree but for a FIN that came with data for a socket that nobody holds any more: the socket answers
/// with a RST and has never received the FIN (`tcp_rcv_state_process`, `TCPABORTONDATA`); that nobody reads shows in the
/// RST only.
pub fn agree_but_for_a_fin_unread(kernel: &[&str], observed: &[String]) -> bool {
    match observed {
        [before @ .., fin, last] if matches!(fin.as_str(), "closing" | "time_wait") && last == "closed" => {
            agree(kernel, &[before, std::slice::from_ref(last)].concat())
        }
        _ => false,
    }
}

/// Whether the two agree but for an end without a word: `SO_LINGER` 0 in LAST_ACK drops the socket and sends nothing
/// (`tcp_disconnect`, `tcp_need_reset`).
pub fn agree_but_for_a_silent_end(kernel: &[&str], observed: &[String]) -> bool {
    matches!(kernel, [before @ .., "closed"] if before.last() == Some(&"last_ack") && agree(before, observed))
}

/// The connections on one tuple, of the states that its sockets went through one after the other.
pub fn connections(changes: &[(&'static str, &'static str)]) -> Vec<Vec<&'static str>> {
    let mut connections: Vec<Vec<&'static str>> = Vec::new();
    // A socket that is closed after its shutdown is told once more what it is.
    for &(old, new) in changes.iter().filter(|(old, new)| old != new) {
        // While one socket closes, another may try in vain to have its tuple.
        let goes_on = |connection: &&mut Vec<&'static str>| connection.last() == Some(&old) && old != "closed";
        match connections.iter_mut().rev().find(goes_on) {
            Some(connection) => connection.push(new),
            // A client's socket begins with CLOSE → SYN_SENT.
            None if old == "closed" => connections.push(vec![new]),
            None => connections.push(vec![old, new]),
        }
    }
    connections
}

/// A `connect` that found the tuple taken, by a socket or a TIME_WAIT, and has sent nothing.
pub fn is_in_vain(kernel: &[&str]) -> bool {
    kernel == ["syn_sent", "closed"]
}

/// Whether the passive end of an attempt has no socket to say anything.
pub fn is_unfinished(observed: &[String]) -> bool {
    observed.iter().all(|state| matches!(state.as_str(), "listen" | "syn_received" | "closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(states: &str) -> Vec<String> {
        states.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_socket_that_is_replaced_by_a_minisock_has_said_its_last_word() {
        let kernel = ["syn_sent", "established", "fin_wait_1", "fin_wait_2", "closed"];
        assert!(agree(&kernel, &observed("syn_sent established fin_wait_1 fin_wait_2 time_wait")));
        assert!(agree(&kernel, &observed("syn_sent established fin_wait_1 time_wait")));
        assert!(!agree(&kernel, &observed("syn_sent established fin_wait_1 closing time_wait")));
        assert!(!agree(&kernel, &observed("syn_sent established fin_wait_1 closed")));
    }

    #[test]
    fn a_passive_end_is_a_copy_of_the_listener() {
        let kernel = ["listen", "syn_received", "established", "close_wait", "last_ack", "closed"];
        assert!(agree(&kernel, &observed("listen syn_received established close_wait last_ack closed")));
        assert!(!agree(&kernel, &observed("listen syn_received established close_wait closed")));
        assert!(!agree(&kernel, &observed("listen syn_received established close_wait last_ack")));
    }

    #[test]
    fn a_fin_that_was_held_back_is_no_other_difference() {
        let kernel = ["established", "fin_wait_1", "closing", "closed"];
        assert!(agree_but_for_a_fin_held_back(&kernel, &observed("established close_wait last_ack closed")));
        assert!(agree_but_for_a_fin_held_back(&kernel, &observed("established close_wait closed")));
        assert!(!agree_but_for_a_fin_held_back(&kernel, &observed("established fin_wait_1 closed")));
        assert!(agree_but_for_a_fin_held_back(
            &["established", "fin_wait_1", "closed"],
            &observed("established closed")
        ));
        let in_turn = ["established", "fin_wait_1", "fin_wait_2", "closed"];
        assert!(!agree_but_for_a_fin_held_back(&in_turn, &observed("established close_wait last_ack closed")));
    }

    #[test]
    fn a_fin_that_nobody_has_read_is_no_other_difference() {
        let kernel = ["syn_sent", "established", "fin_wait_1", "closed"];
        assert!(agree_but_for_a_fin_unread(&kernel, &observed("syn_sent established fin_wait_1 closing closed")));
        assert!(!agree_but_for_a_fin_unread(&kernel, &observed("syn_sent established close_wait closing closed")));
        assert!(!agree_but_for_a_fin_unread(&kernel, &observed("syn_sent established fin_wait_1 closing")));
    }

    #[test]
    fn an_end_in_silence_is_one_in_last_ack() {
        let kernel = ["established", "close_wait", "last_ack", "closed"];
        assert!(agree_but_for_a_silent_end(&kernel, &observed("established close_wait last_ack")));
        assert!(!agree_but_for_a_silent_end(&kernel, &observed("established close_wait")));
        assert!(!agree_but_for_a_silent_end(&["established", "closed"], &observed("established")));
    }

    #[test]
    fn each_socket_of_a_tuple_is_a_connection() {
        let once = [("syn_received", "established"), ("established", "closed")];
        let connection = vec!["syn_received", "established", "closed"];
        assert_eq!(connections(&[once, once].concat()), [connection.clone(), connection]);
        let client = [("closed", "syn_sent"), ("syn_sent", "closed"), ("closed", "syn_sent")];
        assert_eq!(connections(&client), [vec!["syn_sent", "closed"], vec!["syn_sent"]]);
        let between =
            [("established", "last_ack"), ("closed", "syn_sent"), ("syn_sent", "closed"), ("last_ack", "closed")];
        assert_eq!(connections(&between), [vec!["established", "last_ack", "closed"], vec!["syn_sent", "closed"]]);
    }
}
