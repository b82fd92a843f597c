use std::io::IsTerminal;
use std::path::Path;

use tandem_api::{PageLink, Problem};
use tandem_node::messages::Code;
use tandem_node::platform::browser;

use super::Place;
use crate::cli::{OpenArgs, PageArgs};
use crate::client::Client;
use crate::output::{self, Exit};

/// A link that opens the page of the running node.
pub(super) fn run(place: &Place, args: &PageArgs) -> Result<Exit, Problem> {
    let link: PageLink = Client::require(&place.data)?.post_empty("/api/page/link")?;
    if !link.in_build {
        return Err(Code::PageNotBuilt.problem());
    }
    output::either(place.json, &link, text);
    if args.open.wanted(!place.json) {
        open(&link, &place.data)?;
    }
    Ok(Exit::Done)
}

fn text(link: &PageLink) -> String {
    format!("{}\nOpen it in a browser on this machine within two minutes. It works once.", link.url)
}

/// What `up` says of the page when the node has started. The link is for the person before the screen only, not for logs.
pub(super) fn offer(link: &PageLink, args: &OpenArgs, data: &Path) {
    if !std::io::stdout().is_terminal() {
        output::line("For the page, run: tandem page");
    } else {
        output::line(format!(
            "Page          {}\n              (works once, for two minutes; then: tandem page)",
            link.url
        ));
    }
    if args.wanted(true)
        && let Err(problem) = open(link, data)
    {
        output::problem(&problem, false);
    }
}

fn open(link: &PageLink, data: &Path) -> Result<(), Problem> {
    browser::open_secret(&link.url, data)
        .map_err(|error| Code::NoBrowser.with(&[("detail", &error.to_string())]))
}

impl OpenArgs {
    /// As asked for; else where somebody sits before this machine and reads what is printed.
    fn wanted(&self, for_person: bool) -> bool {
        let seen = || std::io::stdout().is_terminal() && browser::has_desktop(|name| std::env::var_os(name));
        self.open || (!self.no_open && for_person && seen())
    }
}
