//! Exchange: administration (1), mailbox items (2) and aggregated access (50) (audit schema,
//! "Exchange").

use crate::generate::{
    Draft, Head,
    json::{Object, guid_text},
};

const CLIENT: &str = "Client=REST;Client=RESTSystem;;";
const OFFICE: &str = "00000002-0000-0ff1-ce00-000000000000";
const SUBJECTS: [&str; 8] = [
    "Re: Budget",
    "Invitation: stand-up",
    "AW: Müller / Vertrag",
    "会議の件",
    "Lunch? 🍜",
    "FW: \"quarterly\" numbers",
    "  (no subject)  ",
    "Ticket #4711",
];

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    match draft.chance.below(100) {
        0..20 => administration(draft, object),
        20..60 => item(draft, object),
        _ => aggregated(draft, object),
    }
}

fn administration(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let target = draft.chance.pick(&draft.scene.directory.users);
    draft.head(
        object,
        &Head {
            operations: &[
                "Set-Mailbox",
                "Add-MailboxPermission",
                "New-InboxRule",
                "Set-User",
                "New-MigrationBatch",
            ],
            record_type: 1,
            workload: "Exchange",
            result: Some("True"),
            user_key: &user.puid,
            address: true,
            object_id: Some(&target.display_name),
        },
    );
    object.text("AppId", "");
    object.text("ClientAppId", "");
    object.flag("ExternalAccess", false);
    object.text("OrganizationName", &draft.scene.domain);
    server(draft, object);
    // Mostly an array, now and then text that holds one.
    if draft.chance.hit(0.03) {
        object.text("Parameters", "[{\"Name\":\"Identity\",\"Value\":\"EURPR01A001/Microsoft Exchange Hosted Organizations\"}]");
    } else {
        object.array("Parameters", |list| {
            list.named("Identity", &target.display_name);
            list.named("User", "domain\\user");
            list.named("AccessRights", "FullAccess");
            list.named("InheritanceType", "All");
            list.named("GrantSendOnBehalfTo", &user.principal_name);
            list.named("Force", "False");
        });
    }
    draft.any_guid(object, "SessionId");
    draft.any_guid(object, "RequestId");
}

fn server(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let number = draft.chance.below(10_000);
    // A real one ends with a line break.
    let end = if draft.chance.hit(0.5) { "\r\n" } else { "" };
    object.text(
        "OriginatingServer",
        &format!("DM6PR04MB{number:04} (15.20.3654.014){end}"),
    );
}

/// What all mailbox records have in common. `ExternalAccess` is text in some aggregated ones.
fn mailbox(draft: &mut Draft<'_>, object: &mut Object<'_>, text_share: f64) {
    let user = draft.user;
    object.text("AppId", OFFICE);
    object.text("ClientAppId", OFFICE);
    object.text("ClientIPAddress", &user.address);
    object.text("ClientInfoString", CLIENT);
    draft.any_guid(object, "ClientRequestId");
    if draft.chance.hit(text_share) {
        object.text("ExternalAccess", "False");
    } else {
        object.flag("ExternalAccess", false);
    }
    object.number("InternalLogonType", 0);
    object.number("LogonType", 0);
    object.text("LogonUserSid", &user.sid);
    object.guid("MailboxGuid", user.mailbox);
    object.text("MailboxOwnerSid", &user.sid);
    object.text("MailboxOwnerUPN", &user.principal_name);
    object.text("OrganizationName", &draft.scene.domain);
    server(draft, object);
    draft.any_guid(object, "SessionId");
}

fn item(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &[
                "Create",
                "Update",
                "SoftDelete",
                "HardDelete",
                "Send",
                "MoveToDeletedItems",
                "ModifyFolderPermissions",
            ],
            record_type: 2,
            workload: "Exchange",
            result: Some("Succeeded"),
            user_key: &user.puid,
            address: true,
            object_id: None,
        },
    );
    mailbox(draft, object, 0.0);
    let (id, folder) = (item_id(draft), item_id(draft));
    let subject = *draft.chance.pick(&SUBJECTS);
    let size = draft.chance.below(90_000);
    object.object("Item", |item| {
        item.text("Id", &id);
        item.text(
            "InternetMessageId",
            &format!("<{}@contoso.example>", &id[8..40]),
        );
        item.object("ParentFolder", |parent| {
            parent.text("Id", &folder);
            parent.text(
                "MemberRights",
                "ReadAny, Create, EditOwned, DeleteOwned, EditAny, DeleteAny, Visible",
            );
            parent.text("Name", "Calendar");
            parent.text("Path", "\\Calendar");
        });
        item.number("SizeInBytes", size as i64);
        item.text("Subject", subject);
    });
    // Strings here, objects in the other workloads.
    if draft.chance.hit(0.3) {
        object.array("ModifiedProperties", |list| {
            for name in ["AllAttachmentsHidden", "RecipientCollection", "Subject"] {
                list.text(name);
            }
        });
    }
}

fn item_id(draft: &mut Draft<'_>) -> String {
    format!(
        "LgAAAAD{:032x}{:032x}AAAB",
        draft.chance.wide(),
        draft.chance.wide()
    )
}

fn aggregated(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    draft.head(
        object,
        &Head {
            operations: &["MailItemsAccessed", "AttachmentAccess"],
            record_type: 50,
            workload: "Exchange",
            result: Some("Succeeded"),
            user_key: &user.puid,
            address: false,
            object_id: None,
        },
    );
    let token = guid_text(draft.chance.wide());
    let issued = draft.earlier(3_600);
    object.object("AppAccessContext", |context| {
        context.text("AADSessionId", &token);
        context.text("IssuedAtTime", &issued);
        context.text("UniqueTokenId", &token[..22]);
    });
    mailbox(draft, object, 0.3);
    object.array("OperationProperties", |list| {
        list.named("MailAccessType", "Bind");
        list.named("IsThrottled", "False");
        list.named(
            "SourceFolders",
            "[{\"Id\":\"LgAA\",\"Path\":\"\\\\Inbox\"}]",
        );
    });
    // A sync touches many items at once, now and then.
    let most = if draft.chance.hit(0.25) { 20 } else { 3 };
    let items = 1 + draft.chance.below(most);
    let folder = item_id(draft);
    let ids: Vec<String> = (0..items).map(|_| item_id(draft)).collect();
    object.array("Folders", |folders| {
        folders.object(|it| {
            it.array("FolderItems", |list| {
                for id in &ids {
                    list.object(|item| {
                        item.text(
                            "InternetMessageId",
                            &format!("<{}@contoso.example>", &id[8..40]),
                        );
                        item.number("SizeInBytes", 18_244);
                    });
                }
            });
            it.text("Id", &folder);
            it.text("Path", "\\Inbox");
        });
    });
    object.number("OperationCount", items as i64);
}
