//! What a client of the web server might send, and how slowly: torn anywhere, with seconds between the pieces. The
//! clock is tokio's own and stands still but for waiting.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
    time::{Instant, Sleep, sleep},
};

use crate::{
    output::{
        http::{Health, talk_over},
        metrics::{AgentStatus, Attachment, Exporter, ProgramUsage, SocketCheck},
    },
    snapshot::{Snapshot, fixture},
    source::Source,
};

struct Agent;

impl Source for Agent {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(fixture::empty())
    }
}

impl AgentStatus for Agent {
    fn programs(&self) -> Vec<ProgramUsage> {
        Vec::new()
    }

    fn attachments(&self) -> Vec<Attachment> {
        vec![Attachment { interface: "eth0".to_owned(), hook: "xdp_ingress", mode: "native" }]
    }

    fn socket_check(&self) -> Option<SocketCheck> {
        None
    }
}

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
}

/// The first byte says how the rest is cut, and how long the client waits between the pieces.
///
/// # Panics
/// Where the answer is none, or too late.
pub fn http(bytes: &[u8]) {
    let Some((&manner, request)) = bytes.split_first() else { return };
    let piece = [usize::MAX, 1, 3, 50][usize::from(manner & 3)];
    let pause = [0, 1, 6, 40][usize::from(manner >> 2 & 3)];
    let stays = manner & 16 != 0;
    let answer = std::rc::Rc::new(RefCell::new(Vec::new()));
    let client = Client {
        request: request.to_vec(),
        at: 0,
        piece,
        pause: Duration::from_secs(pause),
        stays,
        waiting: None,
        answer: answer.clone(),
    };
    let took = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let began = Instant::now();
            talk_over(client, Arc::new(Exporter::new(Arc::new(Agent), Arc::new(Agent))), || Health::Ok).await;
            began.elapsed()
        })
    });
    assert!(took <= Duration::from_secs(31), "a connection took {took:?}");
    check(request, &answer.borrow());
}

/// One answer, whole: a status, headers, and as many bytes as they say.
fn check(request: &[u8], answer: &[u8]) {
    if answer.is_empty() {
        return;
    }
    let text = String::from_utf8(answer.to_vec()).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a first line");
    let code: u16 = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    assert!(status.starts_with("HTTP/1."), "{status}");
    let lengths: Vec<_> = lines.filter_map(|line| line.strip_prefix("content-length: ")).collect();
    assert_eq!(lengths.len(), 1, "{head}");
    let is_head = request.starts_with(b"HEAD ") || request.starts_with(b"\r\nHEAD ");
    if !body.is_empty() {
        assert_eq!(lengths[0].parse(), Ok(body.len()), "{head}");
    } else {
        assert!(is_head || lengths[0] == "0" || request.windows(5).any(|word| word == b"HEAD "), "{head}");
    }
    assert!(matches!(code, 200 | 400 | 404 | 405 | 408 | 414 | 431), "{status}");
    if code == 200 {
        let has = |word: &[u8]| request.windows(word.len()).any(|window| window == word);
        assert!(has(b"GET ") || has(b"HEAD "), "{:?} was answered", String::from_utf8_lossy(request));
    }
}

struct Client {
    request: Vec<u8>,
    at: usize,
    piece: usize,
    pause: Duration,
    /// Whether it keeps its sending side open when it has said all.
    stays: bool,
    waiting: Option<Pin<Box<Sleep>>>,
    answer: std::rc::Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let client = self.get_mut();
        if let Some(waiting) = &mut client.waiting {
            std::task::ready!(waiting.as_mut().poll(context));
            client.waiting = None;
        }
        let rest = &client.request[client.at..];
        if rest.is_empty() && client.stays {
            return Poll::Pending;
        }
        let bytes = rest.len().min(buffer.remaining()).min(client.piece);
        buffer.put_slice(&rest[..bytes]);
        client.at += bytes;
        if !client.pause.is_zero() {
            client.waiting = Some(Box::pin(sleep(client.pause)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Torn as well.
        let bytes = &bytes[..bytes.len().min(self.piece.max(50))];
        self.answer.borrow_mut().extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
