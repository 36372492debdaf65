//! Record types.

/// `AuditLogRecordType`: always the number; the name is decoration (audit schema, 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordType(pub i64);
