//! Acct-Terminate-Cause (RFC 2866 §5.10): why a session ended, for accounting.

/// The subscriber hung up.
pub const USER_REQUEST: u32 = 1;
/// The LAC or the line went away.
pub const LOST_CARRIER: u32 = 2;
/// No user data for as long as the session may idle.
pub const IDLE_TIMEOUT: u32 = 4;
/// It has lasted as long as it may.
pub const SESSION_TIMEOUT: u32 = 5;
/// An operator ended it.
pub const ADMIN_RESET: u32 = 6;
/// The LNS is being shut down for good.
pub const NAS_REBOOT: u32 = 11;
/// PPP failed.
pub const SERVICE_UNAVAILABLE: u32 = 15;
/// Something inside broke.
pub const NAS_ERROR: u32 = 9;
