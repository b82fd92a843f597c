use tandem_api::{Contact, ContactChange, NewContact, Problem};
use tandem_node::installation::{prepare_folder, unix_ms};
use tandem_node::platform::{DataLock, paths};
use tandem_node::store::Store;

use super::Place;
use crate::cli::ContactAction;
use crate::client::{Client, path_part};
use crate::output::{self, Exit};

pub(super) fn run(place: &Place, action: Option<ContactAction>) -> Result<Exit, Problem> {
    let book = Book::open(place)?;
    match action.unwrap_or(ContactAction::List) {
        ContactAction::List => {
            let contacts = book.list()?;
            output::either(place.json, &contacts, |contacts| list(contacts));
        }
        ContactAction::Add { name, address, note } => {
            let contact = book.add(NewContact { address, name, note })?;
            output::either(place.json, &contact, |contact| format!("{} is now a contact.", contact.name));
        }
        ContactAction::Remove { who } => {
            book.remove(&who)?;
            let removed = serde_json::json!({ "removed": who });
            output::either(place.json, &removed, |_| format!("{who} is no longer a contact."));
        }
        ContactAction::Rename { who, name } => {
            let change = ContactChange { name: Some(name), ..ContactChange::default() };
            changed(place, &book.change(&who, &change)?, "has a new name");
        }
        ContactAction::Set { who, relay_only, direct: _ } => {
            let change = ContactChange { relay_only: Some(relay_only), ..ContactChange::default() };
            let how = if relay_only { "is called through relays only" } else { "may be called directly" };
            changed(place, &book.change(&who, &change)?, how);
        }
        ContactAction::Block { who } => {
            changed(place, &book.change(&who, &blocked(true))?, "never rings any more");
        }
        ContactAction::Unblock { who } => {
            changed(place, &book.change(&who, &blocked(false))?, "may ring again");
        }
    }
    Ok(Exit::Done)
}

fn blocked(blocked: bool) -> ContactChange {
    ContactChange { blocked: Some(blocked), ..ContactChange::default() }
}

fn changed(place: &Place, contact: &Contact, how: &str) {
    output::either(place.json, contact, |contact| format!("{} {how}.", contact.name));
}

fn list(contacts: &[Contact]) -> String {
    if contacts.is_empty() {
        return "No contacts yet. Add one with: tandem contacts add NAME ADDRESS".to_owned();
    }
    let rows: Vec<[String; 3]> = contacts
        .iter()
        .map(|contact| {
            let marks = [(contact.blocked, "blocked"), (contact.relay_only, "relays only")];
            let marks: Vec<&str> = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
            [contact.name.clone(), marks.join(", "), contact.address.clone()]
        })
        .collect();
    output::table(["Name", "", "Address"], &rows)
}

/// The contacts: the running node's, or where none runs those on the disk.
enum Book {
    Node(Client),
    Disk { store: Store, _lock: DataLock },
}

impl Book {
    fn open(place: &Place) -> Result<Self, Problem> {
        if let Some(client) = Client::find(&place.data)? {
            return Ok(Self::Node(client));
        }
        let lock = prepare_folder(&place.data).map_err(|error| error.problem())?;
        let store =
            Store::open(&place.data.join(paths::STORE), unix_ms()).map_err(|error| error.problem())?;
        Ok(Self::Disk { store, _lock: lock })
    }

    fn list(&self) -> Result<Vec<Contact>, Problem> {
        match self {
            Self::Node(client) => client.get("/api/contacts"),
            Self::Disk { store, .. } => store.contacts().map_err(|error| error.problem()),
        }
    }

    fn add(&self, new: NewContact) -> Result<Contact, Problem> {
        match self {
            Self::Node(client) => client.post("/api/contacts", &new),
            Self::Disk { store, .. } => store.add_contact(&new, unix_ms()).map_err(|error| error.problem()),
        }
    }

    fn change(&self, who: &str, change: &ContactChange) -> Result<Contact, Problem> {
        match self {
            Self::Node(client) => client.patch(&format!("/api/contacts/{}", path_part(who)), change),
            Self::Disk { store, .. } => {
                store.change_contact(who, change, unix_ms()).map_err(|error| error.problem())
            }
        }
    }

    fn remove(&self, who: &str) -> Result<(), Problem> {
        match self {
            Self::Node(client) => client.delete(&format!("/api/contacts/{}", path_part(who))),
            Self::Disk { store, .. } => {
                store.remove_contact(who).map(|_| ()).map_err(|error| error.problem())
            }
        }
    }
}
