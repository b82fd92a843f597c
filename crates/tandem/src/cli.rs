//! The command line. The forms of `up`, `call`, `connections` and `relay` are relied on by scripts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::BenchArgs;
use crate::demo::DemoArgs;

const ABOUT: &str = "Tandem: a telephone network without a telephone company.

Every user runs a node. Nodes whose owners agree help others to find and hear each other. Calls are encrypted from end
to end. Tandem cannot place emergency calls.";

const AFTER: &str = "Examples:
  tandem up                                  run a node, and leave it running
  tandem id                                  your address, to give to others
  tandem contacts add Bob tandem:ae…         remember somebody
  tandem call Bob --play hello.wav --record answer.wav --for 10s
  tandem connections                         why is it connected to so many machines?

Exit status: 0 done; 1 it failed, and the message says why; 2 the command line is wrong; 3 no node is running;
4 the call brought no sound through.

Settings come from flags, then TANDEM_* variables, then tandem.toml in the data folder (tandem config show), all within
the policy of an organisation, if this machine has one (tandem policy).";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, about = "Tandem: a telephone network without a telephone company", long_about = ABOUT, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The data folder (default: $XDG_DATA_HOME/tandem)
    #[arg(long, global = true, value_name = "DIR", env = "TANDEM_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Read the passphrase of sealed keys from this file (or set TANDEM_PASSPHRASE)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Up(UpArgs),
    /// Show your address; with --words the 24 words of the account
    Id(IdArgs),
    /// Call somebody
    Call(CallArgs),
    /// Answer a call that rings here
    Answer(WhichCall),
    /// Decline a call that rings here
    Decline(WhichCall),
    /// End a call
    Hangup(WhichCall),
    /// The people you know
    Contacts(ContactsArgs),
    /// The devices of your account: list, add, rename, revoke
    Devices(DevicesArgs),
    /// Make a link by which somebody may call you though strangers do not ring
    Invite(InviteArgs),
    /// Ask somebody who takes no calls from strangers to let you in: silently, without ringing
    Request(RequestArgs),
    /// Silent requests of others that wait for you
    Requests(RequestsArgs),
    /// Block an account: it neither rings nor leaves requests, and is not told so
    Block(Whom),
    /// Let a blocked account be as others
    Unblock(Whom),
    /// Blocked accounts
    Blocks,
    /// Every connection of the node, and why it is there
    Connections(ConnectionsArgs),
    /// Calls going on and past ones
    Calls(CallsArgs),
    /// The settings in force
    Config(ConfigArgs),
    /// Private networks: make one, let members in, show what is held here
    Network(NetworkArgs),
    /// What an organisation allows on this machine: show it, or check a policy file
    Policy(PolicyArgs),
    /// Check this installation; doctor network: what kind of network this is, and what follows for calls
    Doctor(DoctorArgs),
    /// Gather what helps to find a fault, with everything that names somebody taken out; it is sent nowhere
    Bundle(BundleArgs),
    /// A test call to a supernode's echo service: what you play should come back
    Echo(EchoArgs),
    /// Run only a relay (STUN and TURN), with TURN-REST credentials, for standard clients
    Relay(RelayArgs),
    /// What volunteering means, and what this node does for others
    Volunteer(VolunteerArgs),
    /// Show the page of the running node: a link that opens it once
    Page(PageArgs),
    /// Show the node's state
    Status,
    /// Stop the running node in good order
    Stop,
    /// A call between two people on this machine, whose relay is killed
    Demo(DemoArgs),
    /// Measure durations on this machine: calls, set-up, idling, sound
    Bench(BenchArgs),
    /// Print the version
    Version,
}

/// Settings given as flags.
#[derive(Debug, Args, Default)]
pub(crate) struct SettingFlags {
    /// Listen here (UDP and TCP), for a fixed place in the network; again for IPv6
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', value_parser = parse_socket)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Listen here over TCP too, for those whose network lets nothing else out: IP:443
    #[arg(long, value_name = "IP:443", value_delimiter = ',', value_parser = parse_socket)]
    pub(crate) listen_tcp: Vec<SocketAddr>,
    /// Where others reach a supernode, if not at --listen: behind a NAT, or with --listen 0.0.0.0:PORT
    #[arg(long, value_name = "IP:PORT[/tcp]", value_delimiter = ',')]
    pub(crate) external: Vec<String>,
    /// Supernodes to begin with, as printed under "listen" by another node
    #[arg(long, value_name = "MULTIADDR", num_args = 1..)]
    pub(crate) bootstrap: Vec<String>,
    /// Address of the local API and page
    #[arg(long, value_name = "127.0.0.1:PORT", value_parser = parse_socket)]
    pub(crate) api: Option<SocketAddr>,
    /// Serve others: directory, relay or both
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    pub(crate) volunteer: Vec<String>,
    /// Number of the volunteers' terms you accept (tandem volunteer terms)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) accept_terms: Option<u32>,
    /// What an incoming call meets: ring, echo or wav:FILE
    #[arg(long, value_name = "echo|wav:FILE|ring")]
    pub(crate) answer: Option<String>,
    /// Let it ring this long before an automatic answer: 2s, 500ms
    #[arg(long, value_name = "TIME")]
    pub(crate) answer_after: Option<String>,
    /// When packets are doubled over a second path
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) redundancy: Option<RedundancyArg>,
    /// Never show the other side of a call this machine's address
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// What calls of strangers meet: requests (they do not ring, and may leave a silent request), ring or refuse
    #[arg(long, value_name = "requests|ring|refuse")]
    pub(crate) strangers: Option<String>,
    /// Network id: networks with different ids do not see each other
    #[arg(long, value_name = "ID")]
    pub(crate) network: Option<String>,
    /// Count these ranges of addresses as public too (a lab, a company)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(crate) public_range: Vec<String>,
    /// What to log, for example info or tandem_node=debug,info
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem up --bootstrap /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3KooW…
  tandem up --listen 198.51.100.7:4001 --volunteer directory,relay --accept-terms 1
  tandem up --answer echo --json

With --json it prints one line when others can reach it:
  {\"ready\":true,\"address\":\"tandem:…\",\"device\":\"…\",\"listen\":[…],\"homes\":[…]}
SIGTERM or Ctrl-C stops it in good order within 10 seconds.")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem page               print a link, and open it where there is a desktop
  tandem page --no-open     only print it
  tandem page --json        {\"url\":\"http://127.0.0.1:7710/#code=…\",\"expires_unix_ms\":…,\"in_build\":true}

The link works once, within two minutes. Whoever opens it can do everything that you can: do not pass it on.")]
pub(crate) struct PageArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// Whether a browser is opened.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Open the page in a browser (default: on a desktop)
    #[arg(long, conflicts_with = "no_open")]
    pub(crate) open: bool,
    /// Do not open a browser
    #[arg(long)]
    pub(crate) no_open: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem id                 the address, to give to others
  tandem id --words         the 24 words: whoever has them is you
  tandem id --restore       type the words of an account you have; only into a data folder without an identity.
                            This adds a device; with --only it shuts all others out")]
pub(crate) struct IdArgs {
    /// Show the 24 words of the account
    #[arg(long, conflicts_with = "restore")]
    pub(crate) words: bool,
    /// Read 24 words from standard input and restore that account here
    #[arg(long)]
    pub(crate) restore: bool,
    /// With --restore: make this the only device; all others are revoked
    #[arg(long, requires = "restore")]
    pub(crate) only: bool,
    /// With --restore: what this device shall be called, like Laptop
    #[arg(long, requires = "restore", value_name = "LABEL", default_value = "")]
    pub(crate) label: String,
    /// With --restore: supernodes to begin with
    #[arg(long, requires = "restore", value_name = "MULTIADDR", num_args = 1..)]
    pub(crate) bootstrap: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem call Bob --play hello.wav --record answer.wav --for 10s
  tandem call tandem:ae… --for 1m --relay-only --json

It goes through the running node of the data folder, or starts one for this call. With --json it prints each event as a
line, and last:
  {\"connected\":true,\"path\":\"relayed\",\"relays\":[…],\"setup_ms\":{…},\"packets\":{…},\"longest_gap_ms\":…,…}
Exit status 0 only if sound came through, else 4.")]
pub(crate) struct CallArgs {
    /// A tandem: address, a link with an invitation, or the name of a contact
    pub(crate) address: String,
    /// WAV file to play into the call
    #[arg(long, value_name = "FILE")]
    pub(crate) play: Option<PathBuf>,
    /// WAV file to write what is heard to
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Hang up this long after the call connected: 10s, 2m, 500ms
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) for_time: Option<Duration>,
    /// Send back what is heard, instead of a file
    #[arg(long, conflicts_with_all = ["play", "record"])]
    pub(crate) echo: bool,
    /// Say why it goes as it goes: paths, addresses, what failed, what each change cost
    #[arg(long)]
    pub(crate) why: bool,
    #[command(flatten)]
    pub(crate) settings: CallSettings,
}

/// The settings that make sense for one call.
#[derive(Debug, Args)]
pub(crate) struct CallSettings {
    /// When packets are doubled over a second path
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) redundancy: Option<RedundancyArg>,
    /// Never show the other side this machine's address
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Supernodes to begin with, when a node is started for this call
    #[arg(long, value_name = "MULTIADDR", num_args = 1..)]
    pub(crate) bootstrap: Vec<String>,
    /// What to log, when a node is started for this call
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem doctor             this installation: folder, keys, clock, store, settings, sound
  tandem doctor network     this network: NAT, blocked UDP or ports, IPv6, round trips, what follows for calls")]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) what: Option<DoctorWhat>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum DoctorWhat {
    /// What kind of network this is; asks supernodes that are known, a few dozen small packets
    Network,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem bundle                  says what would be inside, asks nothing of anybody, writes tandem-bundle.tar
  tandem bundle 3f0a             with the report of that call only
  tandem bundle --show           print the redacted content instead of writing it")]
pub(crate) struct BundleArgs {
    /// Only the report of this call: the beginning of its name
    pub(crate) call: Option<String>,
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = "tandem-bundle.tar")]
    pub(crate) out: PathBuf,
    /// Print the redacted content, and write nothing
    #[arg(long)]
    pub(crate) show: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// WAV file to play (default: a short spoken-like tone pattern)
    #[arg(long, value_name = "FILE")]
    pub(crate) play: Option<PathBuf>,
    /// WAV file to write what comes back to
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// How long: 5s
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) for_time: Option<Duration>,
    #[command(flatten)]
    pub(crate) settings: CallSettings,
}

#[derive(Debug, Args)]
pub(crate) struct WhichCall {
    /// The call (tandem calls); not needed when only one can be meant
    pub(crate) call: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ContactsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<ContactAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContactAction {
    /// Show all contacts
    List,
    /// Remember somebody
    Add {
        /// What you call them
        name: String,
        /// A tandem: address, or a link with an invitation
        address: String,
        /// Anything you like to remember
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Forget somebody
    Remove {
        /// Name or address
        who: String,
    },
    /// Give a contact another name
    Rename {
        /// Name or address
        who: String,
        /// The new one
        name: String,
    },
    /// Change how calls with a contact are made
    #[command(group(clap::ArgGroup::new("what").required(true)))]
    Set {
        /// Name or address
        who: String,
        /// Every call with this contact stays relayed: neither side sees the other's address
        #[arg(long, group = "what")]
        relay_only: bool,
        /// Direct calls with this contact are allowed again
        #[arg(long, group = "what")]
        direct: bool,
    },
    /// Never let this contact ring
    Block {
        /// Name or address
        who: String,
    },
    /// Let a blocked contact ring again
    Unblock {
        /// Name or address
        who: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem devices                            which there are, and which can be reached
  tandem devices join                       on the new device: prints a link and waits
  tandem devices add LINK --label Phone     on a device that holds the account key
  tandem devices revoke Phone               a lost one: out everywhere within a minute

Contacts, past calls and settings stay on each device by itself.")]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DeviceAction>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made in the life of a process")]
pub(crate) enum DeviceAction {
    /// Show all devices of the account
    List,
    /// Make this installation a device of an account: print a link and wait
    Join(JoinArgs),
    /// Add the device that printed a link
    Add {
        link: String,
        /// What it shall be called, like Phone
        #[arg(long, default_value = "")]
        label: String,
        /// Do not ask whether the words are the same
        #[arg(long)]
        yes: bool,
    },
    /// Give a device another label
    Rename {
        /// Label, or the beginning of the key
        who: String,
        label: String,
    },
    /// Shut a device out for ever
    Revoke {
        /// Label, or the beginning of the key
        who: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem invite --label plumber --for 7d      a link for one person
  tandem invite --uses 20 --for 90d           for a visiting card
  tandem invite list
  tandem invite revoke 3

Whoever has the link can ring you, and only that: the call stays relayed, and shows neither side the other's address.")]
pub(crate) struct InviteArgs {
    #[command(subcommand)]
    pub(crate) action: Option<InviteAction>,
    /// For your own eyes
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// It ends after this: 30d, 12h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_life)]
    pub(crate) for_time: Option<Duration>,
    /// How many different people may use it, each as often as they like
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) uses: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum InviteAction {
    /// Show the invitations that are out
    List,
    /// End an invitation
    Revoke { id: u64 },
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  tandem request tandem:ae… --name Alice --message \"We met at the fair.\"

Their device asks for some work first, which takes a second to a minute. Nobody's bell rings, and you hear nothing but
that your request was left. When they accept, your calls ring.")]
pub(crate) struct RequestArgs {
    /// A tandem: address
    pub(crate) address: String,
    /// What to say, at most 140 bytes
    #[arg(long, default_value = "")]
    pub(crate) message: String,
    /// What to be called there
    #[arg(long, default_value = "")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct RequestsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<RequestsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RequestsAction {
    /// Show the requests that wait
    List,
    /// Make whoever left a request a contact
    Accept {
        /// Its id (tandem requests), or the address
        request: String,
        /// The contact's name; default what they call themselves
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Decline a request; they are not told
    Decline {
        /// Its id (tandem requests), or the address
        request: String,
    },
    /// Drop all requests that wait
    Clear,
}

#[derive(Debug, Args)]
pub(crate) struct Whom {
    /// A tandem: address, or the name of a contact
    pub(crate) who: String,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionsArgs {
    /// Of each what it is for, what its other end can and cannot see, why it was chosen, and what would replace it
    #[arg(long, short, visible_alias = "why")]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem calls                   calls going on and past ones
  tandem calls 3f0a --why        why that call went as it did
  tandem calls current --why     the same of the one that goes on, or the last one")]
pub(crate) struct CallsArgs {
    /// One call: the beginning of its name, or current
    pub(crate) call: Option<String>,
    /// Say why it went as it did: paths, addresses, what failed, what each change cost
    #[arg(long, requires = "call")]
    pub(crate) why: bool,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem network create acme --key-file acme.key        begin a private network; keep the file
  tandem network request                                ask to be let in: give the text to whoever runs it
  tandem network admit tandem-member:… --network acme --key-file acme.key --out memberships.txt
  tandem network join memberships.txt                   take up what came back
  tandem network                                        what is held here, and until when")]
pub(crate) struct NetworkArgs {
    #[command(subcommand)]
    pub(crate) action: Option<NetworkAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkAction {
    /// The private network set here, and this installation's memberships of it
    Show,
    /// Make the key of a new private network
    Create(NetworkCreateArgs),
    /// Print what whoever runs the network needs to let this installation in
    Request,
    /// Let members in, or renew them: for whoever has the key of the network
    Admit(AdmitArgs),
    /// Take up memberships (a file, or - for standard input)
    Join { file: PathBuf },
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// The network's id: a–z, 0–9 and -
    pub(crate) name: String,
    /// Where the secret key goes; never written over
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AdmitArgs {
    /// Requests: tandem-member:…
    #[arg(required = true, value_name = "REQUEST")]
    pub(crate) requests: Vec<String>,
    /// The network's id
    #[arg(long, value_name = "NAME")]
    pub(crate) network: String,
    /// The file with its secret key
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// How long they belong to it: 30d, 12h
    #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = parse_life)]
    pub(crate) for_time: Duration,
    /// Who it is, for people
    #[arg(long, value_name = "LABEL", default_value = "")]
    pub(crate) label: String,
    /// Add the memberships to this file instead of printing them
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tandem policy                     what the policy of this machine says, in words
  tandem policy check draft.toml    whether a file is a policy, and what it would mean
  tandem policy check --json        whether a node on this machine can follow its policy")]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) action: Option<PolicyAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// The policy in force on this machine
    Show,
    /// Check a policy file (default: that of this machine), and say what it means
    Check {
        /// The file; anybody's, since it is only looked at
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Each setting in force, and where its value came from
    Show,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  tandem relay --listen 192.0.2.1:3478 --rest-secret S

A client's username is EXPIRY:TAG (EXPIRY in unix seconds, TAG any text), its password is
base64(HMAC-SHA1(S, username)). Two clients reach each other when their tags are equal; see spec/relay.md.")]
pub(crate) struct RelayArgs {
    /// Serve STUN and TURN here, over UDP and TCP; again for IPv6
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', required = true, value_parser = parse_socket)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Serve them here over TCP too: IP:443
    #[arg(long, value_name = "IP:443", value_delimiter = ',', value_parser = parse_socket)]
    pub(crate) listen_tcp: Vec<SocketAddr>,
    /// The secret shared with whoever gives out credentials
    #[arg(long, value_name = "S", env = "TANDEM_REST_SECRET", hide_env_values = true)]
    pub(crate) rest_secret: String,
    /// Forward with so many threads (default: one, and more while it has too much to do, up to the processors)
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) threads: Option<u8>,
    /// What to log
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:
  tandem volunteer                          how it stands
  tandem volunteer terms                    what volunteering means
  tandem volunteer accept                   shows the terms and asks
  tandem volunteer accept --roles directory --terms 1
  tandem volunteer caps --bits-per-second 2M --bytes-per-month 50GB --hours 18:00-23:00
  tandem volunteer ledger --days 7          what was served
  tandem volunteer withdraw                 stops at once, with a drain

Without a running node it counts from the next start.",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct VolunteerArgs {
    /// Show the terms, as: tandem volunteer terms
    #[arg(long)]
    pub(crate) terms: bool,
    #[command(subcommand)]
    pub(crate) action: Option<VolunteerAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolunteerAction {
    /// What passes, what can be seen, what it costs, how to stop
    Terms,
    /// Agree to the terms
    Accept(AcceptArgs),
    /// How much you give; without flags: show it
    Caps(CapsArgs),
    /// What was served, by days; it does not say to whom
    Ledger {
        /// The last days, today among them
        #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=400))]
        days: u64,
    },
    /// How it stands, again every second
    Watch {
        /// End after this: 10s, 5m
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        for_time: Option<Duration>,
    },
    /// Take your consent back: nothing new, and a minute for those you serve
    Withdraw,
}

#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    /// The roles you agree to, exactly
    #[arg(long, value_enum, value_delimiter = ',', default_value = "directory,relay")]
    pub(crate) roles: Vec<RoleArg>,
    /// The number of the terms that you have read: then nothing is asked
    #[arg(long, value_name = "NUMBER")]
    pub(crate) terms: Option<u32>,
}

/// The command line's word for a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// A home to others, a part of the directory
    Directory,
    /// Sound of other people's calls
    Relay,
}

#[derive(Debug, Args)]
pub(crate) struct CapsArgs {
    /// Devices this machine is a home for, at most
    #[arg(long, value_name = "NUMBER")]
    pub(crate) devices: Option<u32>,
    /// Relayed calls at once
    #[arg(long, value_name = "NUMBER")]
    pub(crate) calls: Option<u32>,
    /// Relayed sound, all calls together: 2M, 500k
    #[arg(long, value_name = "RATE", value_parser = parse_bits)]
    pub(crate) bits_per_second: Option<u64>,
    /// Traffic a month, for each role: 50GB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) bytes_per_month: Option<u64>,
    /// Traffic a month for the directory alone
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) directory_bytes_per_month: Option<u64>,
    /// Traffic a month for the relay alone
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) relay_bytes_per_month: Option<u64>,
    /// Serve only then, in this machine's local time: 18:00-23:00, 22-6; or always
    #[arg(long, value_name = "HOURS")]
    pub(crate) hours: Option<String>,
    /// First forget the caps set before: those of the settings hold, or the defaults
    #[arg(long)]
    pub(crate) reset: bool,
}

/// The command line's word for when packets are doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RedundancyArg {
    /// At the start, and when a path is lossy or silent
    Auto,
    Always,
    Off,
}

impl RedundancyArg {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Off => "off",
        }
    }
}

impl From<RedundancyArg> for tandem_api::Redundancy {
    fn from(value: RedundancyArg) -> Self {
        match value {
            RedundancyArg::Auto => Self::Auto,
            RedundancyArg::Always => Self::Always,
            RedundancyArg::Off => Self::Off,
        }
    }
}

/// `30d`, `12h`, and what [`parse_duration`] reads; at most a year.
fn parse_life(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    match days {
        Some(days @ 1..=366) => Ok(Duration::from_secs(86_400 * u64::from(days))),
        Some(_) => Err("it lasts at most a year".to_owned()),
        None => parse_duration(text),
    }
}

/// `50GB`, `500M`, `1000000`: bytes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    parse_amount(text, &["B", ""])
        .ok_or_else(|| format!("\"{text}\" is no amount; one looks like 50GB or 500MB"))
}

/// `2M`, `500kbit/s`, `1000000`: bits per second.
fn parse_bits(text: &str) -> Result<u64, String> {
    parse_amount(text, &["bit/s", "bit", "bps", ""])
        .ok_or_else(|| format!("\"{text}\" is no rate; one looks like 2M or 500k"))
}

/// A number, perhaps with k, M, G or T (powers of 1000), and one of these units.
fn parse_amount(text: &str, units: &[&str]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(split);
    let prefix = units.iter().find_map(|unit| rest.trim_start().strip_suffix(unit))?;
    let factor = match prefix {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let amount = number.parse::<f64>().ok()? * factor;
    // Beyond 2^53 a number of this kind is a mistake.
    (amount < 9e15).then_some(amount as u64)
}

/// A day is more than any call lasts.
const LONGEST: Duration = Duration::from_secs(86_400);

/// `IP:PORT`, with what one looks like where it is none.
fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    let example = "one looks like 192.0.2.1:4001 or [2001:db8::7]:4001";
    text.parse().map_err(|_| format!("\"{text}\" is no address with a port; {example}"))
}

/// `10s`, `2m`, `1h`, `500ms`; a bare number is seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no length of time; one looks like 10s, 2m or 500ms");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(wrong()),
    };
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if duration.is_zero() || duration > LONGEST {
        return Err(format!("\"{text}\" is not between nothing and a day"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn up_takes_the_forms_scripts_rely_on() {
        let cli = parse(
            "tandem up --data DIR --listen 127.1.0.1:4000 --bootstrap /ip4/127.0.0.1/udp/1/quic-v1/p2p/a \
             /ip4/127.0.0.1/udp/2/quic-v1/p2p/b --api 127.0.0.1:7711 --volunteer directory,relay --accept-terms 1 \
             --answer wav:hello.wav --json"
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .as_str(),
        );
        assert_eq!(cli.global.data, Some("DIR".into()));
        assert!(cli.global.json);
        let Command::Up(up) = cli.command else { panic!("not up") };
        assert_eq!(up.settings.bootstrap.len(), 2);
        assert_eq!(up.settings.volunteer, ["directory", "relay"]);
        assert_eq!(up.settings.accept_terms, Some(1));
        assert_eq!(up.settings.answer.as_deref(), Some("wav:hello.wav"));
        let Command::Up(up) = parse("tandem up --bootstrap a --bootstrap b").command else {
            panic!("not up")
        };
        assert_eq!(up.settings.bootstrap, ["a", "b"]);
    }

    #[test]
    fn call_takes_the_forms_scripts_rely_on() {
        let cli = parse(
            "tandem call tandem:abc --data DIR --play in.wav --record out.wav --for 10s --redundancy always --relay-only --json",
        );
        let Command::Call(call) = cli.command else { panic!("not call") };
        assert_eq!(call.address, "tandem:abc");
        assert_eq!(call.for_time, Some(Duration::from_secs(10)));
        assert_eq!(call.settings.redundancy, Some(RedundancyArg::Always));
        assert!(call.settings.relay_only && cli.global.json);
    }

    #[test]
    fn connections_relay_and_the_rest_parse() {
        for (line, long) in
            [("tandem connections --data DIR --json", false), ("tandem connections --why", true)]
        {
            let Command::Connections(connections) = parse(line).command else { panic!("not connections") };
            assert_eq!(connections.verbose, long);
        }
        let Command::Relay(relay) = parse("tandem relay --listen 127.0.0.1:3478 --rest-secret S").command
        else {
            panic!("not relay")
        };
        assert_eq!(relay.rest_secret, "S");
        for line in [
            "tandem id --words",
            "tandem answer",
            "tandem hangup 0a",
            "tandem contacts",
            "tandem contacts add Bob tandem:abc",
            "tandem config show --json",
            "tandem policy",
            "tandem network",
            "tandem network create acme --key-file acme.key",
            "tandem network request --json",
            "tandem network admit tandem-member:a --network acme --key-file acme.key --for 1d",
            "tandem network join -",
            "tandem policy show --json",
            "tandem policy check",
            "tandem policy check draft.toml --json",
            "tandem doctor",
            "tandem doctor network --json",
            "tandem bundle 3f0a --show",
            "tandem calls 3f0a --why",
            "tandem call Bob --why",
            "tandem echo --for 500ms",
            "tandem volunteer --terms",
            "tandem volunteer terms --json",
            "tandem volunteer accept --roles directory --terms 1",
            "tandem volunteer watch --for 3s",
            "tandem volunteer withdraw",
        ] {
            parse(line);
        }
    }

    #[test]
    fn volunteering_takes_caps_as_people_write_them() {
        let line = "tandem volunteer caps --bits-per-second 2.5M --bytes-per-month 50GB --hours 18:00-23:00";
        let Command::Volunteer(args) = parse(line).command else { panic!("not volunteer") };
        let Some(VolunteerAction::Caps(caps)) = args.action else { panic!("not caps") };
        assert_eq!((caps.bits_per_second, caps.bytes_per_month), (Some(2_500_000), Some(50_000_000_000)));
        let Command::Volunteer(args) = parse("tandem volunteer accept").command else {
            panic!("not volunteer")
        };
        let Some(VolunteerAction::Accept(accept)) = args.action else { panic!("not accept") };
        assert_eq!(accept.roles, [RoleArg::Directory, RoleArg::Relay]);
        assert_eq!(parse_bytes("500 MB"), Ok(500_000_000));
        assert_eq!((parse_bits("64kbit/s"), parse_bits("1000")), (Ok(64_000), Ok(1_000)));
        for wrong in ["", "GB", "x", "-1", "1XB", "1e9", "99999TB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        for text in ["", "s", "0s", "-1s", "10x", "1e9s", "999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
