//! Why a supernode was chosen and not another, in words.

/// What a supernode was chosen by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// As `198.51.0.0/16`.
    pub(crate) network: Option<String>,
    /// Another home is in the same one.
    pub(crate) shares_network: bool,
    pub(crate) latency: Option<String>,
    pub(crate) load_percent: Option<u32>,
    pub(crate) software: Option<String>,
    /// Other homes, and those of them that run the same.
    pub(crate) others: usize,
    pub(crate) same_software: usize,
    /// How often it was a home, how long in minutes, how often it was lost.
    pub(crate) served: Option<(u32, u64, u32)>,
    pub(crate) omitted: u32,
    pub(crate) referrer: Option<String>,
    pub(crate) port_443: bool,
}

/// Of the relays of a call.
pub(crate) const RELAY_CHOSEN: &str = "The relays of a call are drawn by lot from those that the two ends name, so that \
    neither end picks them; of those, relays in different networks are used where there are any.";
/// Of those that a scout asks.
pub(crate) const SCOUT_CHOSEN: &str = "A node that is to serve must have been reached by several others in different \
    networks, which it draws by lot from the supernodes that it knows.";
/// Of the other supernodes that this one keeps the directory with.
pub(crate) const NEIGHBOUR_CHOSEN: &str =
    "Supernodes open connections to others at random, from all that they know of.";

const CLASSES: [&str; 5] = ["under 30 ms", "30 to 80 ms", "80 to 150 ms", "150 to 300 ms", "300 ms or more"];

/// A class of `tandem_core::homes::CLASS_BOUNDS_MS`.
pub(crate) fn latency_words(class: u8) -> &'static str {
    CLASSES.get(usize::from(class)).copied().unwrap_or(CLASSES[CLASSES.len() - 1])
}

/// Of every home, so that the sentences about one need not say it again.
const HOMES_CHOSEN: &str = "Homes are drawn by lot from the best that this device knows: never simply the nearest, \
    which would tell where you are. Preferred are those with room that served you well, each in a network of its own \
    and told of by somebody else, and not all of the same release, so that no single fault takes them all.";

/// Sentences, the general one first.
pub(crate) fn because(choice: &Choice) -> Vec<String> {
    let mut sentences = vec![HOMES_CHOSEN.to_owned(), network(choice)];
    sentences.push(match &choice.latency {
        Some(latency) => format!("A round trip takes {latency}."),
        None => "The round trip is not measured yet.".to_owned(),
    });
    sentences
        .extend(choice.load_percent.map(|percent| format!("It says that {percent} % of its room is taken.")));
    sentences.extend(software(choice));
    sentences.push(served(choice));
    sentences.push(match &choice.referrer {
        Some(referrer) => format!("{referrer} told of it."),
        None => "It was known at the start: from the bootstrap list, or from earlier runs.".to_owned(),
    });
    if choice.port_443 {
        sentences.push("It can be reached over TCP port 443, too, which few networks block.".to_owned());
    }
    sentences
}

fn network(choice: &Choice) -> String {
    match (&choice.network, choice.shares_network) {
        (Some(network), false) => format!("It is alone of your homes in the network {network}."),
        (Some(network), true) => {
            format!(
                "It is in the network {network}, as another of your homes is: too few networks were at hand."
            )
        }
        (None, _) => "It does not say in which network it is.".to_owned(),
    }
}

fn software(choice: &Choice) -> Option<String> {
    let software = choice.software.as_ref()?;
    Some(match (choice.others, choice.same_software) {
        (0, _) => format!("It runs {software}."),
        (_, 0) => format!("It runs {software}, and none of your other homes does."),
        (others, same) if same == others && others > 1 => {
            format!(
                "It runs {software}, as all your homes do, since too few that run anything else are known."
            )
        }
        (others, same) => format!("It runs {software}, as {same} of your {others} other homes."),
    })
}

fn served(choice: &Choice) -> String {
    let Some((times, minutes, lost)) = choice.served else {
        return "It was no home of yours before.".to_owned();
    };
    let omitted = match choice.omitted {
        0 => String::new(),
        count => format!(", and left something out of {}", counted(count, "look-up")),
    };
    let held = if minutes < 120 { (minutes, "minute") } else { (minutes / 60, "hour") };
    format!(
        "It has been your home {}, for {} in all, and was lost {}{omitted}.",
        counted(times, "time"),
        counted(u32::try_from(held.0).unwrap_or(u32::MAX), held.1),
        counted(lost, "time")
    )
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What speaks for and against one that may come next. `wait_s`: it is left alone for so long.
pub(crate) fn next_words(choice: &Choice, load_class: u8, is_poor: bool, wait_s: u64) -> String {
    let load = ["has room", "is busy", "is nearly full"][usize::from(load_class.min(2))];
    let mut words = vec![
        choice.network.clone().unwrap_or_else(|| "network unknown".to_owned()),
        choice.latency.clone().unwrap_or_else(|| "never measured".to_owned()),
        load.to_owned(),
    ];
    words.extend(choice.software.clone());
    if is_poor {
        words.push("served badly before".to_owned());
    }
    if wait_s > 0 {
        words.push(format!("left alone for {wait_s} s"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_counts_is_said() {
        let choice = Choice {
            network: Some("198.51.0.0/16".into()),
            latency: Some(latency_words(1).into()),
            load_percent: Some(40),
            software: Some("tandem/0.1.0".into()),
            others: 2,
            same_software: 1,
            served: Some((3, 150, 1)),
            omitted: 2,
            referrer: Some("12D3KooWx".into()),
            ..Choice::default()
        };
        let text = because(&choice).join(" ");
        for said in
            ["198.51.0.0/16", "30 to 80 ms", "40 %", "as 1 of your 2", "3 times", "2 hours ", "lost 1 time,"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(text.contains("2 look-ups") && text.contains("12D3KooWx told"), "{text}");
        let alone = because(&Choice { shares_network: true, port_443: true, ..choice });
        assert!(alone.iter().any(|sentence| sentence.contains("too few networks")));
        let nothing = because(&Choice::default()).join(" ");
        let same = Choice { others: 2, same_software: 2, software: Some("x/1".into()), ..Choice::default() };
        assert!(because(&same).join(" ").contains("as all your homes do"));
        assert!(nothing.contains("no home of yours before") && nothing.contains("at the start"), "{nothing}");
        assert_eq!(
            next_words(&Choice::default(), 2, true, 9),
            "network unknown, never measured, is nearly full, served badly before, left alone for 9 s"
        );
    }
}
