//! A tuple that is used again, right after its last connection.

use std::{io, thread, time::Duration};

use integration_tests::traffic::reset_on_close;

use crate::visit::{Both, Expected, Visit, read_out};

fn closed_by_client(both: Both) -> io::Result<()> {
    both.talk()?;
    drop(both.client);
    read_out(&both.server)
}

fn closed_by_server(both: Both) -> io::Result<()> {
    both.talk()?;
    drop(both.server);
    read_out(&both.client)
}

/// The client's socket takes over from its own TIME_WAIT (`tcp_tw_reuse`), a second later at the earliest.
pub fn after_own_time_wait(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    closed_by_client(both)?;
    visit.expect(Expected::closed("originator", "fin"));
    thread::sleep(Duration::from_millis(1_100));
    let both = visit.open_again()?;
    closed_by_client(both)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// The server's TIME_WAIT takes a SYN that is newer (RFC 9293, 3.6.1).
pub fn after_the_servers_time_wait(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    closed_by_server(both)?;
    visit.expect(Expected::closed("responder", "fin"));
    for _ in 0..1 + visit.random.below(2) {
        let both = visit.open_again()?;
        closed_by_server(both)?;
        visit.expect(Expected::closed("responder", "fin"));
    }
    Ok(())
}

pub fn after_a_reset(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = visit.open()?;
    both.talk()?;
    reset_on_close(&both.client);
    drop(both.client);
    let _ = read_out(&both.server);
    visit.expect(Expected::closed("originator", "rst"));
    let both = visit.open_again()?;
    closed_by_client(both)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}
