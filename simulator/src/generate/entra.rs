//! Microsoft Entra: directory changes (8) and sign-ins (15) (audit schema, "Microsoft Entra ID").

use crate::generate::{
    Draft, Head,
    json::{Array, Object, guid_text},
};

const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0";
const APPLICATIONS: [&str; 5] = [
    "c44b4083-3bb0-49c1-b47d-974e53cbdf3c",
    "00000002-0000-0ff1-ce00-000000000000",
    "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
    "4765445b-32c6-49b0-83e6-1d93765276ca",
    "1fec8e78-bce4-4aaf-ab1b-5451cc387264",
];

/// Writes one of them.
pub(super) fn write(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    if draft.chance.hit(0.7) {
        sign_in(draft, object);
    } else {
        change(draft, object);
    }
}

fn sign_in(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let application = *draft.chance.favour(&APPLICATIONS);
    let operation = draft.head(
        object,
        &Head {
            operations: &[
                "UserLoggedIn",
                "UserLoggedIn",
                "UserLoggedIn",
                "UserLoginFailed",
            ],
            record_type: 15,
            workload: "AzureActiveDirectory",
            // The result of the exchange, not of the sign-in: failed ones say Success, too.
            result: Some("Success"),
            user_key: &guid_text(user.object_id),
            address: true,
            object_id: Some(application),
        },
    );
    object.number("AzureActiveDirectoryEventType", 1);
    object.array("ExtendedProperties", |list| {
        list.named("ResultStatusDetail", "Success");
        list.named("UserAgent", AGENT);
        list.named("RequestType", "OAuth2:Authorize");
        list.named("UserAuthenticationMethod", "1");
        list.named("KeepMeSignedIn", "True");
    });
    object.array("ModifiedProperties", |_| {});
    let puid = &user.puid;
    object.array("Actor", |list| {
        identity(list, &guid_text(user.object_id), 0);
        identity(list, &user.principal_name, 5);
        identity(list, puid, 3);
    });
    object.text("ActorContextId", &draft.scene.tenant);
    object.text("ActorIpAddress", &user.address);
    draft.any_guid(object, "InterSystemsId");
    draft.any_guid(object, "IntraSystemId");
    object.text("SupportTicketId", "");
    object.array("Target", |list| identity(list, application, 0));
    object.text("TargetContextId", &draft.scene.tenant);
    object.text("ApplicationId", application);
    let session = guid_text(draft.chance.wide());
    object.array("DeviceProperties", |list| {
        list.named("OS", "Windows10");
        list.named("BrowserType", "Edge");
        list.named("IsCompliantAndManaged", "False");
        list.named("SessionId", &session);
    });
    if operation == "UserLoginFailed" {
        object.text("ErrorNumber", "50126");
        object.text("LogonError", "InvalidUserNameOrPassword");
    } else {
        object.text("ErrorNumber", "0");
    }
}

fn change(draft: &mut Draft<'_>, object: &mut Object<'_>) {
    let user = draft.user;
    let target = draft.chance.pick(&draft.scene.directory.users);
    draft.head(
        object,
        &Head {
            operations: &[
                "Update user.",
                "Add member to group.",
                "Update group.",
                "Add user.",
                "Update User",
                "Add app role assignment to service principal.",
                "Consent to application.",
            ],
            record_type: 8,
            workload: "AzureActiveDirectory",
            result: Some("Success"),
            user_key: &format!("{}@{}", user.puid, draft.scene.domain),
            address: draft.scene.oddities > 0.0 && user.admin,
            object_id: Some(&target.principal_name),
        },
    );
    object.number("AzureActiveDirectoryEventType", 1);
    object.array("ExtendedProperties", |list| {
        list.named(
            "additionalDetails",
            &format!("{{\"UserType\":\"Member\",\"User-Agent\":\"{AGENT}\"}}"),
        );
        list.named("extendedAuditEventCategory", "User");
    });
    modifications(draft, object, &target.display_name);
    object.array("Actor", |list| {
        identity(list, &user.principal_name, 5);
        identity(list, &user.puid, 3);
        identity(list, "Microsoft Substrate Management", 1);
        identity(list, &format!("User_{}", guid_text(user.object_id)), 2);
        identity(list, &guid_text(user.object_id), 2);
        identity(list, "User", 2);
    });
    object.text("ActorContextId", &draft.scene.tenant);
    draft.any_guid(object, "InterSystemsId");
    draft.any_guid(object, "IntraSystemId");
    object.text("SupportTicketId", "");
    object.array("Target", |list| {
        identity(list, &format!("User_{}", guid_text(target.object_id)), 2);
        identity(list, &guid_text(target.object_id), 2);
        identity(list, "User", 2);
        identity(list, &target.principal_name, 5);
        identity(list, &target.puid, 3);
    });
    object.text("TargetContextId", &draft.scene.tenant);
}

/// Properties whose values are JSON in text.
fn modifications(draft: &mut Draft<'_>, object: &mut Object<'_>, name: &str) {
    let old = draft.chance.below(10_000);
    object.array("ModifiedProperties", |list| {
        modified(
            list,
            "StrongAuthenticationMethod",
            "[]",
            &format!("[{{\"MethodType\":6,\"Default\":true,\"Code\":{old}}}]"),
        );
        modified(
            list,
            "DisplayName",
            "[\r\n  \"old\"\r\n]",
            &format!("[\r\n  \"{name}\"\r\n]"),
        );
        modified(
            list,
            "Included Updated Properties",
            "",
            "StrongAuthenticationMethod, DisplayName",
        );
        modified(list, "TargetId.UserType", "", "Member");
    });
}

fn identity(list: &mut Array<'_>, id: &str, kind: i64) {
    list.object(|it| {
        it.text("ID", id);
        it.number("Type", kind);
    });
}

fn modified(list: &mut Array<'_>, name: &str, old: &str, new: &str) {
    list.object(|it| {
        it.text("Name", name);
        it.text("NewValue", new);
        it.text("OldValue", old);
    });
}
