//! Markdown of users: rendered, with raw HTML shown as the text that it is.

use std::fmt;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

/// HTML that only [`render`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Rendered(String);

impl fmt::Display for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Made of escaped text and pulldown-cmark's own tags only.
impl askama::filters::HtmlSafe for Rendered {}

/// Renders a document. Raw HTML becomes text, links and images with other schemes than the web's lose their target.
pub(crate) fn render(text: &str) -> Rendered {
    let events =
        Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH).map(|event| match event {
            Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Link { link_type, dest_url: safe(dest_url), title, id })
            }
            // An image of somebody else's would tell them who looks.
            Event::Start(Tag::Image { link_type, title, id, .. }) => {
                Event::Start(Tag::Image { link_type, dest_url: CowStr::Borrowed(""), title, id })
            }
            other => other,
        });
    let mut out = String::new();
    html::push_html(&mut out, events);
    Rendered(out)
}

fn safe(url: CowStr<'_>) -> CowStr<'_> {
    let lower = url.to_ascii_lowercase();
    if ["http://", "https://", "mailto:", "#"].iter().any(|start| lower.starts_with(start)) {
        url
    } else {
        CowStr::Borrowed("#")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_active_survives() {
        let text = "# T\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![p](https://e/x.png) <img src=x onerror=alert(1)>";
        let html = render(text).to_string();
        assert!(!html.contains("<script") && !html.contains("javascript:") && !html.contains("<img src=x"), "{html}");
        assert!(!html.contains("https://e/x.png"), "{html}");
        assert!(html.contains("<h1>T</h1>"), "{html}");
    }
}
