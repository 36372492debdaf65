//! `SharePoint` and `OneDrive`: files (6), sharing (14), pages and searches (4) (audit schema,
//! "`SharePoint` / `OneDrive`").

use crate::generate::{
    Draft, Head,
    directory::Site,
    json::{Object, guid_text},
};

const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0";
const FOLDERS: [&str; 5] = [
    "Shared Documents",
    "Shared Documents/General",
    "Documents/Reports 2026",
    "Style Library/XSL Style Sheets",
    "SiteAssets",
];
const FILES: [(&str, &str); 8] = [
    ("Marketing Strategy Future", "docx"),
    ("Budget Q4 (final)", "xlsx"),
    ("Dokumenttien versionhallinta", "docx"),
    ("提案書", "pptx"),
    ("Architecture", "vsdx"),
    ("photo 📷", "jpg"),
    ("notes & todo", "txt"),
    ("Vertrag_Müller", "pdf"),
];

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    match draft.chance.below(100) {
        0..78 => file(draft, object),
        78..90 => sharing(draft, object),
        _ => page(draft, object),
    }
}

struct Document {
    site_url: String,
    folder: &'static str,
    name: String,
    extension: &'static str,
}

impl Document {
    fn of(draft: &mut Draft<'_>, site: &Site) -> Self {
        let (name, extension) = *draft.chance.favour(&FILES);
        let host = draft.scene.domain.split('.').next().unwrap_or("contoso");
        Self {
            site_url: format!("https://{host}.sharepoint.com/{}/", site.path),
            folder: *draft.chance.favour::<&str>(&FOLDERS),
            name: format!("{name} {}.{extension}", draft.chance.below(500)),
            extension,
        }
    }

    fn url(&self) -> String {
        format!("{}{}/{}", self.site_url, self.folder, self.name)
    }
}

fn file(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let site = draft.chance.favour(&draft.scene.directory.sites);
    let document = Document::of(draft, site);
    let workload = if draft.chance.hit(0.4) {
        "OneDrive"
    } else {
        "SharePoint"
    };
    if draft.chance.hit(0.5) {
        session(draft, object);
    }
    draft.head(
        object,
        &Head {
            operations: &[
                "FileAccessed",
                "FileModified",
                "FilePreviewed",
                "FileAccessedExtended",
                "FileDownloaded",
                "FileUploaded",
                "FileSyncDownloadedFull",
                "FileRenamed",
                "FileDeleted",
                "FileModifiedExtended",
            ],
            record_type: 6,
            workload,
            result: None,
            user_key: &format!("i:0h.f|membership|{}@live.com", user.puid.to_lowercase()),
            address: true,
            object_id: Some(&document.url()),
        },
    );
    if draft.chance.hit(0.3) {
        object.text("AuthenticationType", "OAuth");
        object.text("BrowserName", "Edge");
        object.text("BrowserVersion", "126.0.0.0");
        object.text("GeoLocation", "EUR");
        object.flag("IsManagedDevice", false);
        object.text("Platform", "WinDesktop");
    }
    place(draft, object, site);
    drift(draft, object);
    object.number(
        "FileSizeBytes",
        (draft.chance.bits() >> draft.chance.below(40).max(24)) as i64,
    );
    object.text("SourceFileExtension", document.extension);
    object.text("SiteUrl", &document.site_url);
    object.text("SourceFileName", &document.name);
    object.text("SourceRelativeUrl", document.folder);
}

/// Where the document is.
fn place(draft: &mut Draft<'_>, object: &mut Object<'_>, site: &Site) {
    draft.any_guid(object, "CorrelationId");
    object.text("EventSource", "SharePoint");
    object.text("ItemType", "File");
    object.guid("ListId", site.list);
    draft.any_guid(object, "ListItemUniqueId");
    object.guid("Site", site.id);
    object.text("UserAgent", AGENT);
    object.guid("WebId", site.web);
}

/// `AppAccessContext` comes first, as on the wire.
fn session(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let (session, correlation) = (draft.chance.wide(), draft.chance.wide());
    object.object("AppAccessContext", |context| {
        context.guid("AADSessionId", session);
        context.guid("CorrelationId", correlation);
        context.text("UniqueTokenId", &format!("{:022x}", session >> 40));
    });
}

/// Members whose JSON type differs from record to record (audit schema, "Type drift to tolerate").
fn drift(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    match draft.chance.below(3) {
        0 => object.flag("HighPriorityMediaProcessing", false),
        1 => object.text("HighPriorityMediaProcessing", "False"),
        _ => object.text("DoNotDistributeEvent", "True"),
    }
    if draft.chance.hit(0.5) {
        object.number("ListBaseType", 1);
        object.number("ListServerTemplate", 101);
    } else {
        object.text("ListBaseType", "DocumentLibrary");
    }
    if draft.chance.hit(0.05) {
        object.text("FileSyncBytesCommitted", "183024");
    }
}

fn sharing(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let directory = &draft.scene.directory;
    let site = draft.chance.favour(&directory.sites);
    let document = Document::of(draft, site);
    let target = draft.chance.pick(&directory.users);
    session(draft, object);
    draft.head(
        object,
        &Head {
            operations: &[
                "SharingSet",
                "AddedToSecureLink",
                "SharingInvitationCreated",
                "AnonymousLinkCreated",
                "SharingRevoked",
            ],
            record_type: 14,
            workload: "SharePoint",
            result: None,
            user_key: &format!("i:0h.f|membership|{}@live.com", user.puid.to_lowercase()),
            address: true,
            object_id: Some(&document.url()),
        },
    );
    object.text("AuthenticationType", "FormsCookieAuth");
    object.flag("IsManagedDevice", false);
    place(draft, object, site);
    object.text(
        "EventData",
        "<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>",
    );
    object.text("SourceFileExtension", document.extension);
    object.text("TargetUserOrGroupType", "Member");
    object.text("SiteUrl", &document.site_url);
    object.text("SourceFileName", &document.name);
    object.text("SourceRelativeUrl", document.folder);
    object.text("TargetUserOrGroupName", &target.principal_name);
    draft.any_guid(object, "UniqueSharingId");
}

fn page(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let site = draft.chance.favour(&draft.scene.directory.sites);
    let search = guid_text(draft.chance.wide());
    draft.head(
        object,
        &Head {
            operations: &[
                "PageViewed",
                "SearchQueryPerformed",
                "ListViewed",
                "SearchResultReturned",
            ],
            record_type: 4,
            workload: "SharePoint",
            result: None,
            user_key: &format!("i:0h.f|membership|{}@live.com", user.puid.to_lowercase()),
            address: true,
            object_id: Some(&search),
        },
    );
    object.text(
        "ApplicationDisplayName",
        "Microsoft SharePoint Online - SharePoint Home",
    );
    object.text("ApplicationId", "dcad865d-9257-4521-ad4d-bae3e137b345");
    object.text("CorrelationId", &search);
    object.text("EventSource", "SharePoint");
    object.text("ItemType", "Web");
    object.guid("Site", site.id);
    object.text("UserAgent", AGENT);
    object.guid("WebId", site.web);
    object.text(
        "EventData",
        "<ClientType>SPHomeWeb</ClientType><ResultCount>48</ResultCount>",
    );
}
