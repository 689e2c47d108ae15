//! Opens other than three segments and an accept.

use std::{io, net::TcpStream, thread, time::Duration};

use integration_tests::traffic::{bind, send_fast, set_tcp_option, socket_here};

use crate::visit::{Both, Expected, Visit, accept, begin, connected, limited, read_out, send};

/// Each end connects to the other, and neither listens (RFC 9293, 3.5, figure 7).
pub fn simultaneous(visit: &mut Visit<'_>) -> io::Result<()> {
    let server_addr = visit.world.own_listener(visit.family);
    let client = visit.client(server_addr)?;
    let server = visit.world.server.within(|| socket_here(server_addr.is_ipv4()));
    limited(&server);
    bind(&server, server_addr)?;
    let client_addr = client.local_addr()?;
    begin(&client, server_addr)?;
    begin(&server, client_addr)?;
    connected(&client)?;
    connected(&server)?;
    let both = Both { client, server };
    both.talk()?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed(if is_client_first(visit) { "originator" } else { "responder" }, "fin"));
    Ok(())
}

/// Both SYNs are under way at once; the near one is seen first.
fn is_client_first(visit: &Visit<'_>) -> bool {
    visit.side == integration_tests::scene::Side::Client
}

/// The first to a server asks for a cookie, each after it sends its data with the SYN (RFC 7413).
pub fn fast(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = open_fast(visit)?;
    send(&both.server, &both.client, 300)?;
    drop(both.client);
    read_out(&both.server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// The server has answered and closed before the handshake's ACK arrives.
pub fn fast_and_closed_early(visit: &mut Visit<'_>) -> io::Result<()> {
    let both = open_fast(visit)?;
    io::Write::write_all(&mut &both.server, b"answer")?;
    drop(both.server);
    read_out(&both.client)
}

fn open_fast(visit: &mut Visit<'_>) -> io::Result<Both> {
    let to = visit.server_addr();
    let client = visit.client(to)?;
    send_fast(&client, to, b"early")?;
    let both = visit.accept(client)?;
    io::Read::read_exact(&mut &both.server, &mut [0; 5])?;
    Ok(both)
}

/// The listener drops the handshake's last ACK, and sends its SYN-ACK again until data comes.
pub fn deferred_accept(visit: &mut Visit<'_>) -> io::Result<()> {
    let listener = visit.listener(8)?;
    set_tcp_option(&listener, libc::TCP_DEFER_ACCEPT, 5);
    let client = visit.client(listener.local_addr()?)?;
    integration_tests::traffic::connect_to(&client, listener.local_addr()?)?;
    if visit.random.happens(500) {
        thread::sleep(Duration::from_millis(1_300));
    }
    io::Write::write_all(&mut &client, b"now")?;
    let server = accept(&listener, client.local_addr()?)?;
    io::Read::read_exact(&mut &server, &mut [0; 3])?;
    drop(client);
    read_out(&server)?;
    visit.expect(Expected::closed("originator", "fin"));
    Ok(())
}

/// Nobody accepts for a while: the first connections fill the queue, the others hang.
pub fn accept_queue_overflow(visit: &mut Visit<'_>) -> io::Result<()> {
    let listener = visit.listener(0)?;
    let to = listener.local_addr()?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = visit.client(to)?;
        begin(&client, to)?;
        clients.push(client);
    }
    thread::sleep(Duration::from_millis(1_300));
    listener.set_nonblocking(true)?;
    let mut servers: Vec<TcpStream> = Vec::new();
    for _ in 0..120 {
        // A handshake whose last ACK was dropped goes on with data.
        clients.iter().for_each(|client| drop(io::Write::write(&mut &*client, b"x")));
        while let Ok((server, _)) = listener.accept() {
            server.set_nonblocking(false)?;
            limited(&server);
            servers.push(server);
        }
        if servers.len() == clients.len() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    clients.iter().try_for_each(connected)?;
    drop(clients);
    servers.iter().try_for_each(read_out)?;
    visit.expect_of_all(Expected::closed("originator", "fin"));
    Ok(())
}
