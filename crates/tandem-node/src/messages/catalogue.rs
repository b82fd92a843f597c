use super::Entry;

macro_rules! catalogue {
    ($($name:ident = $code:literal, $message:literal, $meaning:literal, $action:literal;)*) => {
        /// Names an entry of the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $message] $name,)*
        }

        impl Code {
            /// All entries, in order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The texts.
            #[must_use]
            pub fn entry(self) -> Entry {
                match self {
                    $(Self::$name => Entry {
                        code: $code, message: $message, meaning: $meaning, action: $action,
                    },)*
                }
            }
        }
    };
}

catalogue! {
    // ---- T10: the data folder and the store
    DataFolder = "T1001", "The data folder {path} cannot be used: {detail}.",
        "Keys, contacts and settings live there, so nothing works without it.",
        "Check that the folder exists, is yours and is on a disk with space, or choose another with --data.";
    DataFolderOpen = "T1002", "The data folder {path} is open to other users of this machine (mode {mode}).",
        "Others could read your keys.",
        "Run: chmod 700 {path}.";
    Locked = "T1003", "Another Tandem (process {pid}) uses the data folder {path}.",
        "Two nodes in one folder would spoil each other's files, so this one does not start.",
        "Use the running one, or stop it first (kill {pid}), or choose another folder with --data.";
    StoreNewer = "T1004", "The store {path} was written by a newer Tandem (schema {found}, this one knows {known}).",
        "This version would damage it, so it was left untouched.",
        "Install the newer version again, or bring back the copy made before the change (store.db.before-*).";
    StoreBroken = "T1005", "The store {path} cannot be read: {detail}.",
        "Contacts and the call history cannot be opened. Your keys are separate files and are not concerned.",
        "Bring back a copy (store.db.before-*), or move the file away to begin with an empty one.";

    // ---- T11: identity and keys
    KeyDamaged = "T1101", "The key file {path} is damaged: {detail}.",
        "It cannot be used, and nothing was overwritten.",
        "Bring it back from a copy. If it is lost, restore the account from its 24 words into an empty folder: tandem id --restore.";
    KeyForeign = "T1102", "The file {path} is not a Tandem key file.",
        "Something else stands where a key should be. Nothing was overwritten.",
        "Move it away, or choose another data folder with --data.";
    KeyMode = "T1103", "The key file {path} can be read by other users of this machine (mode {mode}).",
        "Somebody else may have read it.",
        "Run: chmod 600 {path}. If others had access, move to a new account.";
    KeyKind = "T1104", "The file {path} holds a {found} key where a {expected} key belongs.",
        "Key files were mixed up. Nothing was overwritten.",
        "Put the files back in their places.";
    PassphraseNeeded = "T1105", "The key files in {path} are sealed with a passphrase.",
        "They cannot be opened without it.",
        "Set TANDEM_PASSPHRASE, or use --passphrase-file FILE, or type it when asked.";
    PassphraseWrong = "T1106", "The passphrase does not open {path}.",
        "It is mistyped, or it belongs to another folder.",
        "Try again. A forgotten passphrase cannot be recovered; the 24 words still restore the account.";
    IdentityExists = "T1107", "The folder {path} already holds an identity.",
        "It is never written over.",
        "Choose an empty folder with --data.";
    IdentityIncomplete = "T1108", "The folder {path} holds some key files and lacks {missing}.",
        "The identity is incomplete, and making new keys would replace it.",
        "Bring the missing file back from a copy, or choose an empty folder with --data.";
    WordsWrong = "T1109", "These are not the 24 words of an account: {detail}.",
        "Nothing was written.",
        "Check the spelling and the order of the words.";
    NoAccountKey = "T1110", "The account key is not on this device.",
        "It was added by link and holds a certificate only. Only a device on which the words were made or typed can show them, add a device or revoke one.",
        "Do it there.";
    CertificateWrong = "T1111", "The signatures of your account in {path} do not hold for this device: {detail}.",
        "Others would refuse this device.",
        "Bring the file back from a copy. If the account key is here, remove it instead: the node signs it anew once it has looked the account up. A device without the account key, whose certificate ran out, is added anew: tandem devices join, in an empty data folder.";
    AddressWrong = "T1112", "\"{address}\" is not a Tandem address: {detail}.",
        "An address begins with tandem: and carries a checksum, so a mistyped one is found out.",
        "Copy the whole address again, or use the name of a contact.";

    // ---- T12: settings
    ConfigUnknown = "T1201", "The setting \"{key}\" in {file} is not known.",
        "It would have no effect.",
        "{hint}";
    ConfigValue = "T1202", "The setting {key} ({origin}) is wrong: {detail}.",
        "The node does not start with a setting it cannot follow.",
        "Correct it. See: tandem config show.";
    ConfigFile = "T1203", "The settings file {file} cannot be read: {detail}.",
        "The node does not start with settings it cannot read.",
        "Correct the file, or move it away to use the defaults.";
    TermsNotAccepted = "T1204", "Volunteering needs your consent to the terms (number {terms}).",
        "A volunteer forwards other people's encrypted calls and directory traffic within caps you set, and its internet address becomes known to users.",
        "Read them with: tandem volunteer terms. To agree: tandem volunteer accept --terms {terms}; in the settings: --accept-terms {terms} (or accept_terms = {terms} under [volunteer]).";
    VolunteerListen = "T1205", "A volunteer needs a fixed place to listen on.",
        "Others could not find this machine.",
        "Add --listen IP:PORT (or listen = [\"IP:PORT\"]).";
    VolunteerExternal = "T1206", "A volunteer that listens on {address} must say where others reach it.",
        "It would tell others that address, which is none.",
        "Add --external IP:PORT with its address on the internet, or listen on that address itself.";
    TermsChanged = "T1207", "The terms for volunteers have changed: number {terms} holds now, and you agreed to number {accepted}.",
        "Your node serves nobody until you agree to the new ones. Your own calls work as before.",
        "Read them with: tandem volunteer terms. To agree: tandem volunteer accept. To give it up: tandem volunteer withdraw.";
    CannotServe = "T1208", "This machine cannot listen for others: {detail}.",
        "You agreed to serve others, and your node cannot. Your own calls work as before. It is tried again by itself.",
        "Stop the program that uses the port, or choose another place with --listen. To give it up: tandem volunteer withdraw.";

    // ---- T13: the local API and the CLI
    NotRunning = "T1301", "No Tandem node is running on the data folder {path}.",
        "This command asks a running node.",
        "Start one with: tandem up --data {path}.";
    NodeBusy = "T1302", "The node has too many requests waiting.",
        "Nothing was done.",
        "Try again in a moment.";
    NodeStopped = "T1303", "The node stopped before it answered.",
        "The request may or may not have been done.",
        "Start the node again, and look in its log for the reason.";
    NodeTimeout = "T1304", "The node did not answer within {seconds} seconds.",
        "The request may or may not have been done.",
        "Try again. If it stays so, look in its log and restart it.";
    ApiPortTaken = "T1305", "The address {address} of the local API is taken by another program.",
        "The page and the other commands could not reach this node, so it does not start.",
        "Stop the other program, or choose another port with --api 127.0.0.1:PORT.";
    ApiNotLoopback = "T1306", "The local API may only listen on this machine itself; {address} is not such an address.",
        "Anybody on the network could try to use your node.",
        "Use an address like 127.0.0.1:7710. To reach it from elsewhere, use an SSH tunnel.";
    ApiListen = "T1307", "The local API cannot listen on {address}: {detail}.",
        "The page and the other commands could not reach this node, so it does not start.",
        "Choose another address with --api 127.0.0.1:PORT.";
    Unauthorised = "T1308", "The token is missing or wrong.",
        "Only programs that can read the token file may use this API.",
        "Send the content of DATA/api-token as: Authorization: Bearer TOKEN.";
    ForeignHost = "T1309", "The request was addressed to another host name, or came from another site's page.",
        "A page in your browser may have tried to reach your node. It was refused.",
        "Use the address the node printed when it started.";
    NotFound = "T1310", "There is nothing at this path of the API.",
        "The program asked for something this version does not have.",
        "See /api/openapi.json for what there is.";
    BadRequest = "T1311", "The request cannot be understood: {detail}.",
        "Nothing was done.",
        "See /api/openapi.json for the form it needs.";
    TooLarge = "T1312", "The request is too large.",
        "Nothing was done.",
        "A request may be at most 64 KiB.";
    ApiAnswer = "T1313", "The running node gave an answer this command cannot read: {detail}.",
        "The node and the command may be of different versions.",
        "Restart the node with this version.";
    TooManyListeners = "T1314", "Too many programs listen to events.",
        "This one was not added.",
        "Close another page or program first.";
    BundleNotWritten = "T1316", "The bundle could not be written to {path}: {detail}.",
        "Nothing was left there.",
        "Choose another place with --out FILE.";
    PageCode = "T1317", "This link to the page does not work any more.",
        "A link opens the page once, within two minutes, and only while the node that made it runs.",
        "Make a new one: tandem page.";
    PageTries = "T1318", "Too many wrong links to the page were tried just now.",
        "Another program on this machine may be guessing. Nothing was opened.",
        "Try again in a moment.";
    PageNotBuilt = "T1319", "The page is not in this build of Tandem.",
        "Everything that it shows is also on the command line.",
        "To have it, build with ./x build. Without it: tandem --help.";
    NoBrowser = "T1320", "No browser could be opened: {detail}.",
        "The node runs all the same.",
        "Open the link that is printed, in a browser on this machine.";

    // ---- T14: the network
    NoSupernode = "T1401", "No supernode could be reached.",
        "Nobody can call you, and you can call nobody, until one answers.",
        "Check the connection to the internet. Give a supernode to begin with: --bootstrap /ip4/…/udp/…/quic-v1/p2p/….";
    NoBootstrap = "T1402", "No supernode is known to begin with.",
        "A new node needs one address of the network to find the others.",
        "Add --bootstrap /ip4/…/udp/…/quic-v1/p2p/…, or be the first of a new network with --volunteer directory,relay.";
    BootstrapWrong = "T1403", "\"{address}\" is no address to begin with: {detail}.",
        "The node could not connect to it.",
        "Use the whole address that the other node printed under \"listen\".";
    ListenFailed = "T1404", "The node cannot listen on {address}: {detail}.",
        "Others could not reach it, so it does not start.",
        "Choose another address or port with --listen, or stop the program that uses it.";
    ClockSkew = "T1405", "This machine's clock differs from others' by about {minutes} minutes.",
        "Certificates and records may be refused.",
        "Set the clock; most systems can do it by themselves (NTP).";
    OverlayFailed = "T1406", "The overlay could not be started: {detail}.",
        "The node cannot reach anybody, so it does not start.",
        "Look at the detail; the log says more.";
    AloneSupernode = "T1407", "No other supernode is known yet.",
        "Yours serves others, and they can call each other. Your own account cannot be called: its homes are always supernodes of other people.",
        "Nothing, if this is the first of a new network: it changes when another one joins. Else add --bootstrap /ip4/…/udp/…/quic-v1/p2p/….";
    ListenDenied = "T1410", "The system does not let the node listen on {address}: {detail}.",
        "Ports below 1024, like 443, need a right that this program does not have. The node does not start without what it was told to serve.",
        "Give the program the right: sudo setcap cap_net_bind_service=+ep FILE, with the file of the tandem program (again after each update). A systemd unit of the system gives it with AmbientCapabilities=CAP_NET_BIND_SERVICE. Or leave out --listen-tcp.";

    // ---- T15: calls
    NoSuchCall = "T1501", "There is no such call.",
        "It may be over already.",
        "See what there is with: tandem calls.";
    WhichCall = "T1502", "There are several calls that could be meant.",
        "Nothing was done.",
        "Name one: tandem calls shows them.";
    CallState = "T1503", "The call is not in a state in which that can be done ({state}).",
        "Nothing was done.",
        "See its state with: tandem calls.";
    SoundOffer = "T1509", "The page's offer cannot be answered: {detail}.",
        "The page is not heard in the call, which goes on.",
        "Load the page again. If it stays so, use another browser, or the command line.";
    NoPageHere = "T1510", "This call has no page for a microphone and speaker.",
        "It was placed or answered with a file or the echo, or it has not been answered here yet.",
        "Place or answer it with the endpoint \"page\".";
    PageSound = "T1511", "No page can be heard in this call: {detail}.",
        "The call goes on, and silence is sent.",
        "Hang up and call again. If it stays so, restart the node.";
    TooManyCalls = "T1504", "There are too many calls at once.",
        "This one was not begun.",
        "Hang up another one first.";
    CallSelf = "T1505", "This is your own address.",
        "A call to yourself would ring nowhere.",
        "To test your sound, use: tandem echo.";
    SoundFile = "T1506", "The sound file {path} cannot be used: {detail}.",
        "The call was not begun.",
        "Use a WAV file (PCM, 16 bits, mono or stereo) that you may read, or another place to write to.";
    NoEchoService = "T1507", "No supernode in sight offers the echo service.",
        "The test call was not begun.",
        "Try again in a moment, or call a node that runs with --answer echo.";
    CallFailed = "T1508", "The call did not come about: {detail}",
        "No sound came through.",
        "Try again. If it stays so, see: tandem doctor.";

    // ---- T16: contacts
    NoSuchContact = "T1601", "There is no contact \"{who}\".",
        "Nothing was done.",
        "See what there is with: tandem contacts.";
    ContactName = "T1602", "The name \"{name}\" cannot be used: {detail}.",
        "Nothing was changed.",
        "Choose another name of 1 to 64 characters.";
    ContactExists = "T1603", "There is a contact with this name or address already: \"{name}\".",
        "Nothing was changed.",
        "Choose another name, or change the one there is: tandem contacts rename.";
    ContactsFull = "T1604", "There are {limit} contacts already, which is the most there can be.",
        "Nothing was added.",
        "Remove some first.";

    // ---- T17: devices
    NoSuchDevice = "T1701", "Your account has no device \"{who}\".",
        "Nothing was changed.",
        "See what there is with: tandem devices. Name a device by its label or by the beginning of its key.";
    DevicesFull = "T1702", "Your account has 8 devices already, which is the most there can be.",
        "No device was added.",
        "Revoke one first, on a device that holds the account key: tandem devices revoke LABEL. If none of them is left: tandem id --restore --only makes this device the only one.";
    DeviceLinkWrong = "T1703", "This is not a device link: {detail}.",
        "Nothing was changed.",
        "Run tandem devices join on the new device, and give the whole link that it prints.";
    DeviceUnreached = "T1704", "The other device could not be reached: {detail}.",
        "Nothing was changed.",
        "See that both devices are online and that the other one still waits, then try again.";
    DeviceRefused = "T1705", "The other device did not accept: {detail}.",
        "Nothing was changed.",
        "Begin again with a new link: tandem devices join.";
    DevicesBusy = "T1706", "Too many changes of your devices wait for their turn.",
        "Nothing was changed.",
        "Try again in a moment.";
    DeviceRevoked = "T1707", "This device was revoked by your account on another device.",
        "It can neither call nor be called any more, and its keys cannot come back.",
        "If you want to use it again, choose an empty data folder and add it anew: tandem devices join. Contacts and recordings in this folder stay.";
    DeviceThis = "T1708", "This is the device you are using.",
        "A device does not revoke itself: nobody would be left to say so.",
        "Revoke it on another device that holds the account key, or simply delete its data folder.";
    JoinFailed = "T1709", "This device was not added: {detail}.",
        "Nothing was written.",
        "Run tandem devices join again and use its new link.";
    Restoring = "T1710", "The account's other devices are not known yet.",
        "This device is added to the account as soon as the directory can be asked. Until then it cannot be called.",
        "Leave the node running with a connection to the internet. If the other devices shall be shut out: restore into an empty folder with tandem id --restore --only.";
    DeviceLabel = "T1711", "The label \"{label}\" cannot be used: {detail}.",
        "Nothing was changed.",
        "Choose a label of 1 to 64 bytes, like Phone or Kitchen.";
    DeviceGone = "T1712", "{device} is no longer a device of your account.",
        "Another of your devices revoked it, or changed the list at the same moment as you added it.",
        "If nobody meant to: add it again with tandem devices join, in an empty data folder on it.";
    DevicePapers = "T1713", "Your account names this device by another certificate than the one it has.",
        "Others refuse its calls. It happens when this data folder was brought back from an old copy, or when two of your devices changed the list at the same moment.",
        "Leave it running, and on a device that holds the account key give it a label: tandem devices rename WHO LABEL. It gets a new certificate with that.";

    // ---- T18: strangers
    NoSuchInvitation = "T1801", "There is no invitation {id}.",
        "It was revoked or has ended, or never was.",
        "See what there is with: tandem invite list.";
    InvitationsFull = "T1802", "There are {limit} invitations out, which is the most there can be.",
        "No new one was made.",
        "Revoke some first: tandem invite revoke ID.";
    NoSuchRequest = "T1803", "There is no request \"{who}\", or several begin so.",
        "Nothing was done.",
        "See what there is with: tandem requests.";
    RequestBusy = "T1804", "Another request of yours is on its way.",
        "This one was not begun.",
        "Wait until the other one has ended.";
    RequestTooLong = "T1805", "The message is longer than {limit} bytes.",
        "The request was not begun.",
        "Say it shorter.";
    BlocksFull = "T1806", "There are {limit} blocked accounts, which is the most there can be.",
        "Nobody was blocked.",
        "Unblock some first. Strangers do not ring in any case, unless you set it so.";
    NotBlocked = "T1807", "\"{who}\" is not blocked.",
        "Nothing was done.",
        "See who is with: tandem blocks.";
    RequestFailed = "T1808", "The request was not left: {detail}",
        "They will not see it.",
        "Try again later, or ask them for an invitation in another way.";
    LinkWrong = "T1809", "The link to \"{address}\" is damaged: {detail}.",
        "Nobody was called. The address in it is whole; without the invitation a stranger does not ring.",
        "Copy the whole link again, or ask for a new one.";
    BlockOwn = "T1810", "This is your own address.",
        "Nobody was blocked.",
        "To keep a device of yours out, use: tandem devices revoke.";

    // ---- T19: the rest
    Internal = "T1901", "Something went wrong inside the node: {detail}.",
        "This is a mistake in the program, not yours.",
        "Try again. The log in the data folder says more; nothing was sent anywhere.";
    Usage = "T1902", "The command cannot be used like this: {detail}.",
        "Nothing was done.",
        "See: tandem --help.";
    DemoFailed = "T1903", "The demo could not run to its end: {detail}.",
        "Nothing was shown to hold.",
        "Look at the logs it names, and try again on a machine that is less busy.";
    BenchFailed = "T1904", "The bench could not run to its end: {detail}.",
        "Nothing can be said about durations.",
        "See to what the message says, then try again.";

    // ---- T20: an organisation's policy
    PolicyUnreadable = "T2001", "The policy of this machine, {file}, cannot be read: {detail}.",
        "A node that cannot know what is allowed does not start.",
        "Tell whoever administers this machine: the file must be there and readable by everybody, or not be there at all.";
    PolicyUntrusted = "T2002", "The policy of this machine could have been written by others than its administrator: {path}: {detail}.",
        "A node that cannot trust what is allowed does not start.",
        "Tell whoever administers this machine. The file and each folder above it must belong to root and be writable by root alone: chown root {path}; chmod go-w {path}.";
    PolicyWrong = "T2003", "The policy {file} is wrong in line {line}: {detail}.",
        "A node that cannot know what is allowed does not start.",
        "{action} Then try it with: tandem policy check {file}.";
    PolicyForbids = "T2004", "The policy of this machine does not allow {what}.",
        "An organisation decides about this machine: the key {key} in {file}. No setting and no flag changes it.",
        "See what it allows with: tandem policy show. Ask whoever administers this machine if you need more.";
    AuditUnopened = "T2005", "The audit log {path} cannot be opened: {detail}.",
        "The policy of this machine requires it, so the node does not start.",
        "Tell whoever administers this machine: the folder must be there, and the file must be one that this user can append to and others cannot write.";
    AuditNoCalls = "T2006", "The audit log {path} cannot be written.",
        "The policy of this machine requires it: no call is made or taken until it can be. Calls going on go on.",
        "Most often the disk is full. Tell whoever administers this machine.";
    AuditFailing = "T2007", "The audit log {path} cannot be written; what happens now is counted and not written down.",
        "The policy of this machine asks for it and does not require it, so the node goes on.",
        "Most often the disk is full. Tell whoever administers this machine.";

    // ---- T21: private networks
    MembershipMissing = "T2101", "This node has no membership of the private network \"{network}\" that holds ({file}: {detail}).",
        "Nobody in that network speaks with it: it can neither call nor be called.",
        "Send what this prints to whoever runs the network: tandem network request. With what comes back: tandem network join FILE. The node takes it up within seconds.";
    MembershipEnds = "T2102", "The membership of the private network \"{network}\" ends in {hours} hours.",
        "After that nobody in it speaks with this node any more.",
        "Ask whoever runs the network to renew it. The same request holds: tandem network request.";
    NetworkText = "T2103", "\"{text}\" cannot be used: {detail}.",
        "Nothing was done.",
        "Copy the whole text, from its first letter to its last.";
    NetworkFile = "T2104", "The file {file} cannot be used: {detail}.",
        "Nothing was done.",
        "See to what the message says, then try again. The key of a network is never written over.";
    NetworkPublic = "T2105", "No private network is set here.",
        "The network \"{network}\" is open to everybody.",
        "Set its key: network = \"NAME\" and network_key = \"tandem-network:…\" in tandem.toml, as whoever runs it says.";
}
