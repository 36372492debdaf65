//! Refusals of a token request by Microsoft Entra (reference: auth.md §6).

use audit_exporter_core::Kind::{Auth, Config, Throttled, Unavailable};

use super::Loss::{Delayed, Waiting};
use super::Row;

/// What every code begins with.
pub(super) const PREFIX: &str = "AADSTS";

const WRONG_CLOUD: &str =
    "check the tenant's id and that cloud names the national cloud it lives in";
const FEDERATION: &str = "compare issuer, subject and audience of the app's federated credential with the token's, \
                          which `check` shows";
const RESOURCE: &str = "check cloud and audience, and that the tenant has Microsoft 365";
const CONSENT: &str = "an administrator of the tenant does so at the address that `check` shows, or in the app \
                       registration";
/// The older connector signed in as a person.
const UNATTENDED: &str = "this program runs unattended and signs in as an app, never as a person: register one and \
                          grant it application permissions";

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &["AADSTS7000215"],
        Auth,
        "the client secret is wrong",
        "give the secret's value, not the secret's ID",
        Waiting,
    ),
    Row::new(
        &["AADSTS7000222"],
        Auth,
        "the client secret has expired",
        "make a new one in the app registration",
        Waiting,
    ),
    Row::new(
        &["AADSTS700016"],
        Auth,
        "the tenant has no app with this client_id",
        "check client_id and the tenant's id, and that an administrator has consented to the app there",
        Waiting,
    ),
    Row::new(
        &["AADSTS90002"],
        Config,
        "there is no such tenant",
        WRONG_CLOUD,
        Waiting,
    ),
    Row::new(
        &["AADSTS900023"],
        Config,
        "the tenant's id is malformed",
        "give the directory (tenant) ID",
        Waiting,
    ),
    Row::new(
        &["AADSTS90038", "AADSTS900382", "AADSTS900432"],
        Config,
        "the app belongs to another national cloud",
        WRONG_CLOUD,
        Waiting,
    ),
    Row::new(
        &["AADSTS50194"],
        Config,
        "the app cannot be used without a tenant",
        "give the directory (tenant) ID",
        Waiting,
    ),
    Row::new(
        &["AADSTS700027"],
        Auth,
        "the certificate is not registered for the app, or its signature is not valid",
        "compare the certificate's thumbprint, which `check` shows, with those in the app registration (Certificates & \
         secrets)",
        Waiting,
    ),
    Row::new(
        &["AADSTS700024"],
        Auth,
        "the assertion is outside its time range",
        "set this machine's clock; for a federated token, see that its file is renewed",
        Waiting,
    ),
    Row::new(
        &["AADSTS700030"],
        Auth,
        "the certificate's subject or issuer is not authorised",
        "check the app's certificate",
        Waiting,
    ),
    Row::new(
        &["AADSTS700021"],
        Auth,
        "the assertion names another app than client_id",
        "check client_id",
        Waiting,
    ),
    Row::new(
        &["AADSTS50012", "AADSTS700023"],
        Auth,
        "the assertion's audience or signature is not valid",
        "check authority and certificate",
        Waiting,
    ),
    Row::new(
        &["AADSTS50027"],
        Auth,
        "the assertion is not a valid token",
        FEDERATION,
        Waiting,
    ),
    Row::new(
        &["AADSTS70021"],
        Auth,
        "no federated credential of the app matches",
        FEDERATION,
        Waiting,
    ),
    Row::new(
        &["AADSTS700211"],
        Auth,
        "no federated credential of the app has the token's issuer",
        FEDERATION,
        Waiting,
    ),
    Row::new(
        &["AADSTS700212"],
        Auth,
        "no federated credential of the app has the token's audience",
        FEDERATION,
        Waiting,
    ),
    Row::new(
        &["AADSTS700213"],
        Auth,
        "no federated credential of the app has the token's subject",
        FEDERATION,
        Waiting,
    ),
    Row::new(
        &["AADSTS70011"],
        Config,
        "the scope is not valid",
        "check audience: scheme and host, without a slash or a space",
        Waiting,
    ),
    Row::new(
        &["AADSTS700011", "AADSTS500011"],
        Auth,
        "the tenant does not know the API that the token is for",
        RESOURCE,
        Waiting,
    ),
    Row::new(
        &["AADSTS650052", "AADSTS650057"],
        Auth,
        "the API that the token is for is missing in the tenant",
        RESOURCE,
        Waiting,
    ),
    Row::new(
        &["AADSTS70001", "AADSTS7000112"],
        Auth,
        "the app is disabled or missing in the tenant",
        "enable it under Enterprise applications",
        Waiting,
    ),
    Row::new(
        &["AADSTS700025"],
        Config,
        "the app is a public client, which has no secret",
        "register a confidential client",
        Waiting,
    ),
    Row::new(
        &["AADSTS7000218"],
        Config,
        "the request had no client secret or assertion",
        "set client_secret, certificate or federated_token",
        Waiting,
    ),
    Row::new(
        &["AADSTS900144"],
        Config,
        "a parameter of the token request is missing",
        "check that client_id and client_secret are not empty",
        Waiting,
    ),
    Row::new(
        &["AADSTS901002"],
        Config,
        "this authority does not take a resource",
        "set token_version = \"v2\"",
        Waiting,
    ),
    Row::new(
        &["AADSTS65001"],
        Auth,
        "nobody has consented to the app's permissions",
        CONSENT,
        Waiting,
    ),
    Row::new(
        &["AADSTS53003"],
        Auth,
        "a Conditional Access policy blocks the app",
        "exclude it or this machine's address from the policy",
        Waiting,
    ),
    Row::new(
        &["AADSTS500014"],
        Auth,
        "the API's service principal is disabled in the tenant",
        "enable Office 365 Management APIs under Enterprise applications",
        Waiting,
    ),
    Row::new(
        &["AADSTS700082", "AADSTS70008"],
        Auth,
        "the credential has expired",
        "make a new one in the app registration",
        Waiting,
    ),
    Row::new(
        &["AADSTS50074", "AADSTS50076", "AADSTS50079"],
        Auth,
        "a user's sign-in needs multifactor authentication, which a service cannot answer",
        UNATTENDED,
        Waiting,
    ),
    Row::new(
        &[
            "AADSTS50034",
            "AADSTS50053",
            "AADSTS50055",
            "AADSTS50057",
            "AADSTS50126",
        ],
        Auth,
        "a user's sign-in was refused: unknown, locked, disabled, or a wrong or expired password",
        UNATTENDED,
        Waiting,
    ),
    Row::new(
        &["AADSTS50196"],
        Throttled,
        "the authority sees too many equal requests",
        "look for another program that asks for tokens with this app",
        Delayed,
    ),
    Row::new(
        &["AADSTS90055"],
        Throttled,
        "the tenant is throttled",
        "",
        Delayed,
    ),
    Row::new(
        &[
            "AADSTS90006",
            "AADSTS90012",
            "AADSTS90024",
            "AADSTS90033",
            "AADSTS90090",
        ],
        Unavailable,
        "the authority has a temporary fault",
        "",
        Delayed,
    ),
    Row::new(
        &["AADSTS50001", "AADSTS500012"],
        Config,
        "the authority does not know the audience",
        RESOURCE,
        Waiting,
    ),
];
