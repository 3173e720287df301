/** Limits that the load never reaches, and hashes that cost nothing; sign-in.ts measures hashes at their real cost. */
export const BENCH_SETTINGS = {
  LOG_LEVEL: 'warn',
  ALLOW_CHEAP_HASHES: 'true',
  BCRYPT_COST: '4',
  // Nobody reads the mails of a load.
  MAILED_KINDS: '',
  LIMITS_UNVERIFIED: '*=900000000000/900000000000/900000000000',
  ...Object.fromEntries(
    [
      'SIGNUP',
      'LOGIN',
      'LOGIN_ACCOUNT',
      'PIN',
      'TRANSFER',
      'DEPOSIT',
      'WITHDRAWAL',
      'RECIPIENT',
      'DEFAULT',
      'MAIL',
      'API_KEY',
      'API_KEYS',
    ].map(limit => [`RATE_LIMIT_${limit}`, '10000000/60']),
  ),
}
