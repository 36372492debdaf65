//! The people and things of a tenant: who acts, and on what. Made once from the seed, so that the
//! same users, apps and flows come up again and again, as they do in a real tenant.

use crate::{
    chance::{Chance, part},
    generate::json::guid_text,
};

const FIRST_NAMES: [&str; 24] = [
    "Ada",
    "Adele",
    "Alex",
    "Amber",
    "Diego",
    "Emily",
    "Grady",
    "Henrietta",
    "Isaiah",
    "Johanna",
    "Joni",
    "Lee",
    "Lidia",
    "Lynne",
    "Megan",
    "Miriam",
    "Nestor",
    "Patti",
    "Pradeep",
    "Raul",
    "Zoë",
    "Søren",
    "José",
    "Mëhmet",
];
const LAST_NAMES: [&str; 20] = [
    "Archie",
    "Cameron",
    "Fernández",
    "Gu",
    "Holloway",
    "Johansson",
    "Langer",
    "Lorenz",
    "Mueller",
    "Müller",
    "Okafor",
    "Petrova",
    "Sherman",
    "Siciliano",
    "Vance",
    "Wilber",
    "Wilke",
    "Yamada",
    "Ødegaard",
    "Łukasik",
];
const APP_NAMES: [&str; 16] = [
    "Expense Approval",
    "Visitor Check-in",
    "Field Inspection",
    "Leave Request",
    "Asset Tracker",
    "Onboarding Buddy",
    "Quality Audit",
    "Shift Planner",
    "Incident Log",
    "Kaizen 改善",
    "Travel Desk ✈",
    "Contract Desk",
    "Lab Samples",
    "Parts Counter",
    "Meeting Room \"Quick\" Book",
    "TestEmptyApp",
];
const ENVIRONMENT_NAMES: [&str; 5] = [
    "Contoso (default)",
    "dev-na-ba50088f",
    "Finance",
    "HR Production",
    "Field Service Test",
];
const CONNECTORS: [&str; 14] = [
    "Request",
    "Response",
    "OpenApiConnection",
    "Office 365 Outlook",
    "SharePoint",
    "Http",
    "InitializeVariable",
    "Approvals",
    "Microsoft Teams",
    "Dropbox",
    "SQL Server",
    "Twitter",
    "Excel Online (Business)",
    "Azure Blob Storage",
];
const SITES: [&str; 10] = [
    "sites/Finance",
    "sites/HR",
    "sites/Project-x",
    "sites/Engineering",
    "teams/secure-52253",
    "sites/Verkauf-Süd",
    "sites/営業",
    "sites/pub",
    "sites/Legal & Compliance",
    "sites/R&D",
];
const TEAM_NAMES: [&str; 8] = [
    "Finance",
    "Project X 🚀",
    "Field Service",
    "Contoso All Hands",
    "Betriebsrat",
    "Legal",
    "R&D \"Skunkworks\"",
    "営業部",
];

/// Somebody who acts.
pub(crate) struct User {
    pub(crate) principal_name: String,
    pub(crate) display_name: String,
    pub(crate) object_id: u128,
    pub(crate) puid: String,
    pub(crate) address: String,
    pub(crate) sid: String,
    pub(crate) mailbox: u128,
    pub(crate) admin: bool,
}

/// A Power Platform environment.
pub(crate) struct Environment {
    pub(crate) name: &'static str,
    pub(crate) id: String,
}

/// A canvas app.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) id: u128,
    pub(crate) environment: usize,
}

/// A cloud flow.
pub(crate) struct Flow {
    pub(crate) id: u128,
    pub(crate) environment: usize,
    pub(crate) connectors: String,
}

/// A `SharePoint` site.
pub(crate) struct Site {
    pub(crate) path: &'static str,
    pub(crate) id: u128,
    pub(crate) web: u128,
    pub(crate) list: u128,
}

/// A team with its channel.
pub(crate) struct Team {
    pub(crate) name: &'static str,
    pub(crate) group: u128,
    pub(crate) thread: String,
}

/// Everybody and everything of one tenant.
pub(crate) struct Directory {
    pub(crate) users: Vec<User>,
    pub(crate) environments: Vec<Environment>,
    pub(crate) apps: Vec<App>,
    pub(crate) flows: Vec<Flow>,
    pub(crate) sites: Vec<Site>,
    pub(crate) teams: Vec<Team>,
}

impl Directory {
    /// The directory of a tenant.
    pub(crate) fn new(seed: u64, tenant: &str, domain: &str) -> Self {
        let mut chance = Chance::of(&[seed, part(tenant), part("directory")]);
        let environments: Vec<Environment> = ENVIRONMENT_NAMES
            .iter()
            .enumerate()
            .map(|(place, name)| Environment {
                name,
                id: if place == 0 {
                    format!("default-{tenant}")
                } else {
                    guid_text(chance.wide())
                },
            })
            .collect();
        Self {
            users: (0..240)
                .map(|place| user(&mut chance, place, domain))
                .collect(),
            apps: (0..48)
                .map(|place| app(&mut chance, place, environments.len()))
                .collect(),
            flows: (0..160)
                .map(|_| flow(&mut chance, environments.len()))
                .collect(),
            sites: SITES
                .iter()
                .map(|path| Site {
                    path,
                    id: chance.wide(),
                    web: chance.wide(),
                    list: chance.wide(),
                })
                .collect(),
            teams: TEAM_NAMES
                .iter()
                .map(|name| Team {
                    name,
                    group: chance.wide(),
                    thread: format!("19:{:032x}@thread.tacv2", chance.wide()),
                })
                .collect(),
            environments,
        }
    }
}

fn user(chance: &mut Chance, place: usize, domain: &str) -> User {
    let first = FIRST_NAMES[place % FIRST_NAMES.len()];
    let last = LAST_NAMES[(place / FIRST_NAMES.len() + place) % LAST_NAMES.len()];
    let plain = |name: &str| -> String { name.chars().filter(char::is_ascii_alphabetic).collect() };
    let number = if place < FIRST_NAMES.len() {
        String::new()
    } else {
        place.to_string()
    };
    User {
        principal_name: format!("{}.{}{number}@{domain}", plain(first), plain(last)),
        display_name: format!("{first} {last}"),
        object_id: chance.wide(),
        puid: format!("1003{:012X}", chance.bits() & 0xffff_ffff_ffff),
        address: format!("203.0.{}.{}", 112 + chance.below(2), 1 + chance.below(250)),
        sid: format!(
            "S-1-5-21-{}-{}-{}-{}",
            chance.below(1 << 31),
            chance.below(1 << 31),
            chance.below(1 << 31),
            10_000 + place
        ),
        mailbox: chance.wide(),
        admin: place % 16 == 3,
    }
}

fn app(chance: &mut Chance, place: usize, environments: usize) -> App {
    let name = APP_NAMES[place % APP_NAMES.len()];
    App {
        name: match place / APP_NAMES.len() {
            0 => name.to_owned(),
            version => format!("{name} v{}", version + 1),
        },
        id: chance.wide(),
        environment: chance.below(environments as u64) as usize,
    }
}

fn flow(chance: &mut Chance, environments: usize) -> Flow {
    let count = 1 + chance.below(5);
    let connectors: Vec<&str> = (0..count).map(|_| *chance.favour(&CONNECTORS)).collect();
    Flow {
        id: chance.wide(),
        environment: chance.below(environments as u64) as usize,
        connectors: connectors.join(", "),
    }
}
