//! The index page: which version runs, what it observes, and where to go.

use crate::{output::metrics::Attachment, version::BUILD};

pub(super) fn index(attachments: &[Attachment]) -> String {
    let rows: String = attachments
        .iter()
        .map(|Attachment { interface, hook, mode }| {
            format!("<tr><td>{}</td><td>{hook}</td><td>{mode}</td></tr>\n", escape(interface))
        })
        .collect();
    let observed = if rows.is_empty() {
        "<p>No interface is observed.</p>\n".to_owned()
    } else {
        format!("<table>\n<tr><th>Interface</th><th>Hook</th><th>Mode</th></tr>\n{rows}</table>\n")
    };
    let (version, commit) = (escape(BUILD.version), escape(BUILD.commit));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>tcp-observer</title>\n\
         <style>body {{ font-family: sans-serif; margin: 2em }} th, td {{ text-align: left; padding-right: 2em }}</style>\n\
         </head>\n<body>\n<h1>tcp-observer</h1>\n\
         <p>Version {version}, commit {commit}.</p>\n\
         <ul>\n<li><a href=\"metrics\">Metrics</a></li>\n<li><a href=\"healthz\">Health</a></li>\n</ul>\n\
         {observed}</body>\n</html>\n"
    )
}

/// Interfaces may be named almost anything, `<b>` included.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_interface_is_text_and_not_markup() {
        let attachments = [Attachment { interface: "<b>&\"".to_owned(), hook: "tc_egress", mode: "tcx" }];
        let page = index(&attachments);
        assert!(page.contains("<td>&lt;b&gt;&amp;&quot;</td><td>tc_egress</td><td>tcx</td>"), "{page}");
    }

    #[test]
    fn without_attachments_the_page_says_so() {
        assert!(index(&[]).contains("No interface is observed."));
    }
}
