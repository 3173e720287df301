/**
 * Every problem that the API returns: its status, whether a later retry can succeed (`retryable`), and whether the
 * answer is final for the request's idempotency key (`final`: a new attempt needs a new key). A code without a row does
 * not compile. The codes of `decide` in the ledger are the rows with `final: true`.
 */
type Problem = { status: number; title: string; retryable: boolean; final: boolean }

const refused = (status: number, title: string) =>
  ({ status, title, retryable: false, final: false }) as const
const later = (status: number, title: string) => ({ status, title, retryable: true, final: false }) as const
const decided = (status: number, title: string) => ({ status, title, retryable: false, final: true }) as const

export const PROBLEMS = {
  // the request's format
  MALFORMED_REQUEST: refused(400, 'The request cannot be read'),
  REQUEST_TIMEOUT: refused(408, 'The request did not come in time'),
  HEADERS_TOO_LARGE: refused(431, 'The headers are too large'),
  MALFORMED_JSON: refused(400, 'The body is not JSON'),
  VALIDATION_ERROR: refused(422, 'The request breaks a rule'),
  PAYLOAD_TOO_LARGE: refused(413, 'The body is too large'),
  UNSUPPORTED_MEDIA_TYPE: refused(415, 'The body must be JSON'),
  ROUTE_NOT_FOUND: refused(404, 'There is no such route'),
  METHOD_NOT_ALLOWED: refused(405, 'The route does not know this method'),
  IDEMPOTENCY_KEY_REQUIRED: refused(400, 'The Idempotency-Key header is missing'),
  IDEMPOTENCY_KEY_REUSED: refused(422, 'The Idempotency-Key belongs to another request'),
  // authentication and permissions
  TOKEN_MISSING: refused(401, 'A bearer token is needed'),
  TOKEN_INVALID: refused(401, 'The token is not valid'),
  TOKEN_EXPIRED: refused(401, 'The token has expired'),
  TOKEN_REVOKED: refused(401, 'The session or API key has ended'),
  INVALID_CREDENTIALS: refused(401, 'E-mail address or password is wrong'),
  REFRESH_TOKEN_INVALID: refused(401, 'The refresh token is not valid'),
  REFRESH_TOKEN_REUSED: refused(401, 'The refresh token was used before'),
  EMAIL_NOT_VERIFIED: refused(403, 'The e-mail address is not verified yet'),
  EMAIL_ALREADY_REGISTERED: refused(409, 'The e-mail address is registered already'),
  INVALID_VERIFICATION_TOKEN: refused(400, 'The verification token is not valid'),
  VERIFICATION_PROOF_REQUIRED: refused(403, 'Who made the account is not shown'),
  INVALID_RESET_TOKEN: refused(400, 'The token for a new password is not valid'),
  PASSWORD_MISMATCH: refused(400, 'The current password is wrong'),
  SAME_PASSWORD: refused(400, 'The new password is the old one'),
  NO_PASSWORD: refused(400, 'The account has no password'),
  CROSS_SITE_REQUEST: refused(403, 'The request comes from another site'),
  // 403, unlike an invalid token's 401: a client that refreshes and repeats on 401 would waste a try with each wrong
  // code.
  '2FA_INVALID': refused(403, 'The code is wrong or was used'),
  '2FA_LOCKED': refused(423, 'The second factor is locked'),
  '2FA_NOT_ENABLED': refused(400, 'The second factor is not turned on'),
  '2FA_ALREADY_ENABLED': refused(400, 'The second factor is turned on already'),
  CHALLENGE_INVALID: refused(401, 'The challenge of the sign-in is not valid'),
  ACCOUNT_DISABLED: refused(403, 'The account is disabled'),
  PERSON_ERASED: refused(409, 'The person is erased'),
  ERASURE_BLOCKED: refused(409, 'Something stands in the way of the deletion'),
  EXPORT_NOT_FOUND: refused(404, 'No such export was asked for'),
  INSUFFICIENT_PERMISSIONS: refused(403, 'Your role does not allow this'),
  API_KEY_NOT_ALLOWED: refused(403, 'No API key may do this'),
  INSUFFICIENT_SCOPE: refused(403, 'The API key lacks the scope'),
  API_KEY_AMOUNT_EXCEEDED: refused(403, 'The amount is more than the API key may move'),
  SIGNATURE_INVALID: refused(401, 'The signature is not valid'),
  // the PIN
  PIN_NOT_SET: refused(400, 'No PIN is set'),
  PIN_ALREADY_SET: refused(409, 'A PIN is set already'),
  PIN_REQUIRED: refused(403, 'A PIN or a step-up token is needed'),
  INVALID_PIN: refused(403, 'The PIN is wrong'),
  PIN_LOCKED: refused(423, 'The PIN is locked'),
  REAUTHENTICATION_REQUIRED: refused(403, 'A fresh proof of who you are is needed'),
  INVALID_OTP: refused(400, 'The mailed code is not valid'),
  STEP_UP_REQUIRED: refused(403, 'A step-up token of the second factor is needed'),
  STEP_UP_INVALID: refused(403, 'The step-up token is not valid'),
  // the requested resource
  USER_NOT_FOUND: refused(404, 'There is no such user'),
  ACCOUNT_ALREADY_DISABLED: refused(409, 'The account is disabled already'),
  ACCOUNT_NOT_DISABLED: refused(409, 'The account is not disabled'),
  EXTERNAL_TOKEN_INVALID: refused(401, "The other issuer's token is not valid"),
  EXTERNAL_IDENTITY_UNKNOWN: refused(403, 'The identity is linked to no account'),
  EXTERNAL_IDENTITY_TAKEN: refused(409, 'The identity is linked to an account already'),
  EXTERNAL_IDENTITY_NOT_LINKED: refused(409, 'The address has an account that the identity is not linked to'),
  EXTERNAL_EMAIL_NOT_VERIFIED: refused(403, 'The provider has not verified the e-mail address'),
  LAST_SIGN_IN_METHOD: refused(409, 'The identity is the only way to sign in'),
  OIDC_PROVIDER_NOT_FOUND: refused(404, 'There is no such provider'),
  OIDC_STATE_INVALID: refused(400, 'The sign-in through the provider is not valid'),
  OIDC_REFUSED: refused(403, 'The provider refused the sign-in'),
  EXTERNAL_IDENTITY_NOT_FOUND: refused(404, 'There is no such linked identity'),
  SESSION_NOT_FOUND: refused(404, 'There is no such session'),
  API_KEY_NOT_FOUND: refused(404, 'There is no such API key'),
  API_KEY_ENDED: refused(409, 'The API key has ended or was replaced'),
  TOO_MANY_API_KEYS: refused(409, 'There are too many API keys already'),
  WALLET_NOT_FOUND: refused(404, 'There is no such wallet'),
  WALLET_ALREADY_EXISTS: refused(409, 'There is a wallet in this currency already'),
  RECIPIENT_NOT_FOUND: refused(404, 'There is no such recipient'),
  TRANSFER_NOT_FOUND: refused(404, 'There is no such transfer'),
  TRANSFER_NOT_COMPLETED: refused(409, 'The transfer has not completed'),
  RECEIPT_NOT_FOUND: refused(404, 'There is no such receipt'),
  RECEIPT_NOT_AUTHENTIC: refused(404, 'The receipt is not authentic'),
  PAYMENT_NOT_FOUND: refused(404, 'There is no such payment'),
  HOLD_NOT_FOUND: refused(404, 'There is no such hold'),
  WEBHOOK_NOT_FOUND: refused(404, 'There is no such webhook'),
  WEBHOOK_DELIVERY_NOT_FOUND: refused(404, 'There is no such delivery of the webhook'),
  TOO_MANY_WEBHOOKS: refused(409, 'There are too many webhooks already'),
  NOTIFICATION_NOT_FOUND: refused(404, 'There is no such notification'),
  WALLET_ALREADY_FROZEN: refused(409, 'The wallet is frozen already'),
  WALLET_NOT_FROZEN: refused(409, 'The wallet is not frozen'),
  WALLET_ALREADY_CLOSED: refused(409, 'The wallet is closed already'),
  WALLET_HAS_BALANCE: refused(409, 'The wallet is not empty'),
  FREEZE_NOT_YOURS: refused(403, 'Somebody else froze the wallet'),
  LIMIT_ABOVE_MAXIMUM: refused(422, 'The limit is above what is allowed'),
  // decided by the ledger: final
  INSUFFICIENT_BALANCE: decided(402, 'The balance is too low'),
  WALLET_FROZEN: decided(403, 'The wallet is frozen'),
  WALLET_CLOSED: decided(403, 'The wallet is closed'),
  RECIPIENT_UNAVAILABLE: decided(409, 'The recipient cannot receive money'),
  SELF_TRANSFER: decided(422, 'Sender and recipient are the same wallet'),
  CURRENCY_MISMATCH: decided(422, 'The currencies do not match'),
  BALANCE_LIMIT: decided(422, 'The balance would pass the largest possible'),
  REQUEST_EXPIRED: decided(409, 'The request expired before it was decided'),
  PER_TRANSACTION_LIMIT_EXCEEDED: decided(422, 'The amount is above the limit of one transaction'),
  DAILY_LIMIT_EXCEEDED: decided(422, 'The limit of the day is used up'),
  MONTHLY_LIMIT_EXCEEDED: decided(422, 'The limit of the month is used up'),
  HOLD_ENDED: decided(409, 'The hold has ended'),
  HOLD_EXPIRED: decided(409, 'The time to capture the hold is over'),
  HOLD_NOT_EXPIRED: decided(409, 'The time to capture the hold is not over'),
  HOLD_AMOUNT_EXCEEDED: decided(422, 'The amount is more than is held'),
  NOT_REVERSIBLE: decided(409, 'The transfer cannot be reversed'),
  REVERSAL_EXCEEDS_ORIGINAL: decided(422, 'More would be given back than was paid'),
  PAYMENT_FAILED: decided(402, 'The payment provider refused the payment'),
  INTERNAL_ERROR: { status: 500, title: 'Something went wrong on our side', retryable: true, final: false },
  // temporary
  RATE_LIMIT_EXCEEDED: later(429, 'Too many requests'),
  SERVICE_UNAVAILABLE: later(503, 'A part of the system is away'),
} as const satisfies Record<string, Problem>

export type ProblemCode = keyof typeof PROBLEMS

/**
 * The codes with which the ledger rejects a request. The rejection is stored for ever under the request's id, so it is
 * always answered as `final`.
 */
export type RejectionCode =
  | {
      [Code in ProblemCode]: (typeof PROBLEMS)[Code]['final'] extends true ? Code : never
    }[ProblemCode]
  | 'WALLET_NOT_FOUND'
  | 'RECIPIENT_NOT_FOUND'
  | 'TRANSFER_NOT_FOUND'
  | 'HOLD_NOT_FOUND'
  | 'INTERNAL_ERROR'

export const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(PROBLEMS, code)
