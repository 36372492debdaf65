//! Record types: what kind of record it is, as a number.
//!
//! The names come from Microsoft Graph's metadata and the Management Activity API's documentation, which disagree on
//! some. Where they do, Graph's stands; the documentation's is understood too where the two only differ in the word,
//! but not where they number differently. New numbers appear all the time, so the number is the fact and the name is
//! decoration.

use std::cmp::Ordering;
use std::sync::LazyLock;

/// `AuditLogRecordType`. The number is kept whether it has a name here or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub i64);

impl RecordType {
    /// The name, as `MicrosoftFlow` for 30, if it is known.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let name = *NAMES.get(usize::try_from(self.0).ok()?)?;
        (name != UNUSED).then_some(name)
    }

    /// The type of a name, upper or lower case. One name has two numbers (`SentinelKQLOnLake`, 367 and 379): the
    /// higher one, which is Graph's, is given.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let after = BY_NAME.partition_point(|(known, _)| compare(known, name).is_le());
        let (known, number) = BY_NAME.get(after.checked_sub(1)?)?;
        known.eq_ignore_ascii_case(name).then_some(Self(*number))
    }

    /// The type that a record gives as a number, a numeric string or a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii();
        match text.parse() {
            Ok(number) => Some(Self(number)),
            Err(_) => Self::from_name(text),
        }
    }
}

static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| LIST.split_ascii_whitespace().collect());

/// Sorted by name without regard to case, then by number.
static BY_NAME: LazyLock<Vec<(&'static str, i64)>> = LazyLock::new(|| {
    let mut names: Vec<_> = (0..)
        .zip(NAMES.iter())
        .filter(|(_, name)| **name != UNUSED)
        .map(|(number, name)| (*name, number))
        .chain(ALIASES)
        .collect();
    names.sort_unstable_by(|(a, x), (b, y)| compare(a, b).then(x.cmp(y)));
    names
});

fn compare(a: &str, b: &str) -> Ordering {
    let [a, b] = [a, b].map(|name| name.bytes().map(|byte| byte.to_ascii_lowercase()));
    a.cmp(b)
}

/// Stands in [`LIST`] for a number without a name.
const UNUSED: &str = "-";

/// Names that only the documentation of the Management Activity API uses.
const ALIASES: [(&str, i64); 11] = [
    ("Viva Engage", 22),
    ("VivaInsights", 44),
    ("PrivacyInsights", 103),
    ("Viva Goals", 216),
    ("CloudPolicyService", 288),
    ("SensitiveInfoDiscovered", 291),
    ("BackupPolicy", 298),
    ("RestoreTask", 299),
    ("RestoreItem", 300),
    ("BackupItem", 301),
    ("DataScanClassification", 361),
];

/// The names of the numbers from 0 on.
const LIST: &str = "
    - ExchangeAdmin ExchangeItem ExchangeItemGroup SharePoint SyntheticProbe SharePointFileOperation OneDrive
    AzureActiveDirectory AzureActiveDirectoryAccountLogon DataCenterSecurityCmdlet ComplianceDLPSharePoint Sway
    ComplianceDLPExchange SharePointSharingOperation AzureActiveDirectoryStsLogon SkypeForBusinessPSTNUsage
    SkypeForBusinessUsersBlocked SecurityComplianceCenterEOPCmdlet ExchangeAggregatedOperation PowerBIAudit CRM
    Yammer SkypeForBusinessCmdlets Discovery MicrosoftTeams - - ThreatIntelligence MailSubmission MicrosoftFlow AeD
    MicrosoftStream ComplianceDLPSharePointClassification ThreatFinder Project SharePointListOperation
    SharePointCommentOperation DataGovernance Kaizala SecurityComplianceAlerts ThreatIntelligenceUrl
    SecurityComplianceInsights MIPLabel WorkplaceAnalytics PowerAppsApp PowerAppsPlan ThreatIntelligenceAtpContent
    LabelContentExplorer TeamsHealthcare ExchangeItemAggregated HygieneEvent DataInsightsRestApiAudit
    InformationBarrierPolicyApplication SharePointListItemOperation SharePointContentTypeOperation
    SharePointFieldOperation MicrosoftTeamsAdmin HRSignal MicrosoftTeamsDevice MicrosoftTeamsAnalytics
    InformationWorkerProtection Campaign DLPEndpoint AirInvestigation Quarantine MicrosoftForms ApplicationAudit
    ComplianceSupervisionExchange CustomerKeyServiceEncryption OfficeNative MipAutoLabelSharePointItem
    MipAutoLabelSharePointPolicyLocation MicrosoftTeamsShifts SecureScore MipAutoLabelExchangeItem CortanaBriefing
    Search WDATPAlerts PowerPlatformAdminDlp PowerPlatformAdminEnvironment MDATPAudit SensitivityLabelPolicyMatch
    SensitivityLabelAction SensitivityLabeledFileAction AttackSim AirManualInvestigation SecurityComplianceRBAC
    UserTraining AirAdminActionInvestigation MSTIC PhysicalBadgingSignal TeamsEasyApprovals AipDiscover
    AipSensitivityLabelAction AipProtectionAction AipFileDeleted AipHeartBeat MCASAlerts
    OnPremisesFileShareScannerDlp OnPremisesSharePointScannerDlp ExchangeSearch SharePointSearch
    PrivacyDataMinimization LabelAnalyticsAggregate MyAnalyticsSettings SecurityComplianceUserChange
    ComplianceDLPExchangeClassification ComplianceDLPEndpoint MipExactDataMatch MSDEResponseActions
    MSDEGeneralSettings MSDEIndicatorsSettings MS365DCustomDetection MSDERolesSettings MAPGAlerts MAPGPolicy
    MAPGRemediation PrivacyRemediationAction PrivacyDigestEmail MipAutoLabelSimulationProgress
    MipAutoLabelSimulationCompletion MipAutoLabelProgressFeedback DlpSensitiveInformationType
    MipAutoLabelSimulationStatistics LargeContentMetadata Microsoft365Group CDPMlInferencingResult
    FilteringMailMetadata CDPClassificationMailItem CDPClassificationDocument OfficeScriptsRunAction
    FilteringPostMailDeliveryAction CDPUnifiedFeedback TenantAllowBlockList ConsumptionResource HealthcareSignal -
    DlpImportResult CDPCompliancePolicyExecution MultiStageDisposition PrivacyDataMatch FilteringDocMetadata
    FilteringEmailFeatures PowerBIDlp FilteringUrlInfo FilteringAttachmentInfo CoreReportingSettings
    ComplianceConnector PowerPlatformLockboxResourceAccessRequest PowerPlatformLockboxResourceCommand
    CDPPredictiveCodingLabel CDPCompliancePolicyUserFeedback WebpageActivityEndpoint OMEPortal
    CMImprovementActionChange FilteringUrlClick MipLabelAnalyticsAuditRecord FilteringEntityEvent FilteringRuleHits
    FilteringMailSubmission LabelExplorer MicrosoftManagedServicePlatform PowerPlatformServiceActivity
    ScorePlatformGenericAuditRecord FilteringTimeTravelDocMetadata Alert AlertStatus AlertIncident IncidentStatus
    Case CaseInvestigation RecordsManagement PrivacyRemediation DataShareOperation CdpDlpSensitive EHRConnector
    FilteringMailGradingResult PublicFolder PrivacyTenantAuditHistoryRecord AipScannerDiscoverEvent
    EduDataLakeDownloadOperation M365ComplianceConnector MicrosoftGraphDataConnectOperation MicrosoftPurview
    FilteringEmailContentFeatures PowerPagesSite PowerAppsResource PlannerPlan PlannerCopyPlan PlannerTask
    PlannerRoster PlannerPlanList PlannerTaskList PlannerTenantSettings ProjectForTheWebProject ProjectForTheWebTask
    ProjectForTheWebRoadmap ProjectForTheWebRoadmapItem ProjectForTheWebProjectSettings
    ProjectForTheWebRoadmapSettings QuarantineMetadata MicrosoftTodoAudit TimeTravelFilteringDocMetadata
    TeamsQuarantineMetadata SharePointAppPermissionOperation MicrosoftTeamsSensitivityLabelAction
    FilteringTeamsMetadata FilteringTeamsUrlInfo FilteringTeamsPostDeliveryAction MDCAssessments
    MDCRegulatoryComplianceStandards MDCRegulatoryComplianceControls MDCRegulatoryComplianceAssessments
    MDCSecurityConnectors MDADataSecuritySignal VivaGoals FilteringRuntimeInfo AttackSimAdmin
    MicrosoftGraphDataConnectConsent FilteringAtpDetonationInfo PrivacyPortal ManagedTenants
    UnifiedSimulationMatchedItem UnifiedSimulationSummary UpdateQuarantineMetadata MS365DSuppressionRule
    PurviewDataMapOperation FilteringUrlPostClickAction IrmUserDefinedDetectionSignal TeamsUpdates
    PlannerRosterSensitivityLabel MS365DIncident FilteringDelistingMetadata
    ComplianceDLPSharePointClassificationExtended MicrosoftDefenderForIdentityAudit SupervisoryReviewDayXInsight
    DefenderExpertsforXDRAdmin CDPEdgeBlockedMessage HostedRpa CdpContentExplorerAggregateRecord
    CDPHygieneAttachmentInfo CDPHygieneSummary CDPPostMailDeliveryAction CDPEmailFeatures CDPHygieneUrlInfo
    CDPUrlClick CDPPackageManagerHygieneEvent FilteringDocScan TimeTravelFilteringDocScan MAPGOnboard
    VfamCreatePolicy VfamUpdatePolicy VfamDeletePolicy M365DAAD CdpColdCrawlStatus
    PowerPlatformAdministratorActivity Windows365CustomerLockbox CdpResourceScopeChangeEvent
    ComplianceCCExchangeExecutionResult CdpOcrCostEstimatorRecord CopilotInteraction CdpOcrBillingRecord
    ComplianceDLPApplications UAMOperation VivaLearning VivaLearningAdmin PurviewPolicyOperation
    PurviewMetadataPolicyOperation PeopleAdminSettings CdpComplianceDLPExchangeClassification
    CdpComplianceDLPSharePointClassification FilteringBulkSenderInsightData FilteringBulkThresholdInsightData
    PrivacyOpenAccess OWAAuth ComplianceDLPApplicationsClassification SharePointESignature
    Dynamics365BusinessCentral MeshWorlds VivaPulseResponse VivaPulseOrganizer VivaPulseAdmin VivaPulseReport
    AIAppInteraction ComplianceDLMExchange ComplianceDLMSharePoint ProjectForTheWebAssignedToMeSettings CPSOperation
    ComplianceDLPExchangeDiscovery PurviewMCRecommendation ComplianceDLPEndpointDiscovery
    InsiderRiskScopedUserInsights MicrosoftTeamsRetentionLabelAction AadRiskDetection AuditSearch
    AuditRetentionPolicy AuditConfig Microsoft365BackupBackupPolicy Microsoft365BackupRestoreTask
    Microsoft365BackupRestoreItem Microsoft365BackupBackupItem URBACAssignment URBACRole URBACEnableState
    IRMSecurityAlert PurviewInsiderRiskCases PurviewInsiderRiskAlerts InsiderRiskScopedUsers CdpConsumptionResource
    CreateCopilotPlugin UpdateCopilotPlugin DeleteCopilotPlugin EnableCopilotPlugin DisableCopilotPlugin
    CreateCopilotWorkspace UpdateCopilotWorkspace DeleteCopilotWorkspace EnableCopilotWorkspace
    DisableCopilotWorkspace CreateCopilotPromptBook UpdateCopilotPromptBook DeleteCopilotPromptBook
    EnableCopilotPromptBook DisableCopilotPromptBook UpdateCopilotSettings P4AIAssessmentRecord
    P4AIAssessmentLocationResultRecord ConnectedAIAppInteraction PrivaPrivacyConsentOperation
    PrivaPrivacyAssessmentOperation DataCatalogAccessRequests ComplianceSettingsChange DataSecurityInvestigation
    TeamCopilotInteraction IRMActivityAuditTrail SharePointContentSecurityPolicy CloudUpdateProfileConfig
    CloudUpdateTenantConfig CloudUpdateDeviceConfig DefenderPreviewFeatures DeviceDiscoverySettingsExclusion
    DeviceDiscoverySettingsAuthenticatedScans CriticalAssetManagementClassification DeviceDiscoverySettings
    USXWorkspaceOnboarding VivaGlintAdvancedConfiguration VivaGlintPulseProgram VivaGlintPulseProgramRespondentRate
    VivaGlintQuestion VivaGlintRole VivaGlintRubicon VivaGlintSupportAccess VivaGlintSystem VivaGlintUser
    VivaGlintUserGroup VivaGlintFeedbackProgram FabricAudit TrainableClassifier WebContentFiltering NoisyAlertPolicy
    OnDemandSharePointClassification AIInteractionsExport Microsoft365CopilotScheduledPrompt PlacesDirectory
    MDAAudit OpticalCharacterRecognition SentinelKQLOnLake M365SearchSections OfficeClientRestrictedModeAction
    CrossTenantAccessPolicy OutlookCopilotAutomation VivaEngageNetworkAssociation AppAdminActivity
    AppSettingsAdminActivity UniversalPrintPrintJob SentinelNotebookOnLake SentinelJob SentinelGraph
    SentinelKQLOnLake SentinelPackage VivaAmplifyOutlookSensitivityLabel CopilotActions AIInteractionsSubscription
    AIInteractionsChangeNotification FilteringMailMetadataExtended SentinelLakeOnboarding SentinelLakeDataOnboarding
    OfficeRestrictedModeAction CopilotForSecurityTrigger CopilotAgentManagement P4AIAssessmentFabricScannerRecord
    PlannerGoal PlannerGoalList ThreatIntelligenceObject ThreatIntelligenceExport SubmissionAgenticGradingResult
    AgentAdminActivity DeployFeatureActivity AgentSettingsAdminActivity OrganizationalDataInM365 PlannerChatMessage
    PlannerChatMessageList SentinelAITool M365ODSPAssetMetadata AIExecuteTool AIInvokeAgent AIInferenceCall
    CdpClassifierHealthRecord SensitiveInfoRemediationAgentData ComplianceDLPEnforcement A365AIExecuteTool
    A365AIInvokeAgent A365AIInferenceCall VivaEngageSegment RTIOperationsAgent ContentStoreMetadata
    CCRAIPolicyViolation PlannerPlanSensitivityLabel MosAgentInfoRecord A365AIRunSummary UnifiedCatalogConceptAction
    DefenderCaseManagement CopilotForSecurityLogging VivaEngageEvents CallActivityEvent
    SonarDetonationContentMetadata UniversalPrintManagement YammerUserHiding Microsoft365BackupGranularBrowseTask
    PurviewPostureAgent MSDECustomCollection SCPUsageEvent SCPConfigurationEvent MDCConfigurationEvent MDCUsageEvent
    A365SpanOutputs PowerPlatformTenantIsolation CDPDLMAIInteractionInsights P4AIAssessmentCategoryRecord
    SentinelLakeEncryption AZFWNetworkRule AZFWDnsQuery AZFWApplicationRuleAggregation TeamsEvalDataHubDataAccess
    TeamsEvalDataHubPermissionChange TeamsEvalDataHubAdminOperation VivaGlintOrganizationalData AlertSubmission
    AlertSubmissionResultDetail ComplianceSitGradingSharePoint CompliancePolicyGradingSharePoint AzureAISearchAudit
    P4AIRiskScoreRecord DragonCopilotAdmin AISpanOutputs EopSubmissionFeedEntity SonarFileDetonationEntity
    SonarSubmissionEntity SonarUrlDetonationEntity SubmissionEntity SonarDetonationEntity MicrosoftTeamsUserConcern
    VivaGlintAgenticCampaign MSPVectorSearchContentMetadata FabricPolicy SecurityCopilotAgentIdentityManagement
    CopilotSessionSharing DragonCopilotAccess DragonCopilotClinicalData DragonCopilotSession MosAgentInfoRecordV2
    SecurityDevelopmentLifecycleAILog MDASH DefenderSecurityForAIConfiguration SparkCoreCustomLivePool
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for (number, name) in [
            (1, "ExchangeAdmin"),
            (30, "MicrosoftFlow"),
            (45, "PowerAppsApp"),
            (79, "PowerPlatformAdminDlp"),
            (187, "PowerAppsResource"),
            (256, "PowerPlatformAdministratorActivity"),
            (475, "SparkCoreCustomLivePool"),
        ] {
            assert_eq!(RecordType(number).name(), Some(name));
            assert_eq!(RecordType::from_name(name), Some(RecordType(number)));
            assert_eq!(
                RecordType::from_name(&name.to_uppercase()),
                Some(RecordType(number))
            );
        }
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        let named: Vec<i64> = (-2..1000)
            .filter(|n| RecordType(*n).name().is_some())
            .collect();
        assert_eq!(named.len(), 472);
        for number in named {
            let name = RecordType(number).name().unwrap();
            let expected = if number == 367 { 379 } else { number };
            assert_eq!(RecordType::from_name(name), Some(RecordType(expected)));
        }
    }

    #[test]
    fn numbers_without_a_name_stay_numbers() {
        for number in [i64::MIN, -1, 0, 26, 27, 137, 476, i64::MAX] {
            assert_eq!(RecordType(number).name(), None);
        }
    }

    #[test]
    fn parses_numbers_numeric_strings_and_names() {
        for (text, expected) in [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("99999", Some(99999)),
            ("-1", Some(-1)),
            ("exchangeadmin", Some(1)),
            ("Viva Engage", Some(22)),
            ("yammer", Some(22)),
            ("-", None),
            ("", None),
            ("A", None),
            ("zzz", None),
            ("30.5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(RecordType::parse(text), expected.map(RecordType), "{text}");
        }
    }
}
