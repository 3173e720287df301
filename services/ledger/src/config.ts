import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { commandMacKeys } from '@pennywire/kafka/command-mac.ts'
import { parseLimitDefaults } from '@pennywire/rules/limits.ts'
import { jsonFile, serviceSettings } from '@pennywire/runtime/config.ts'
import { z } from 'zod'

/** Limits as CURRENCY=PER_TRANSACTION/DAY/MONTH in whole major units, `*` for every other currency. */
const limitDefaults = z.string().transform((text, context) => {
  try {
    return parseLimitDefaults(text)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})

/** About the value of 2,000, 5,000 and 20,000 US dollars, in currencies whose unit is worth much less than a dollar. */
const UNVERIFIED =
  '*=2000/5000/20000 JPY=300000/750000/3000000 KRW=2500000/6000000/25000000 INR=150000/400000/1500000 ' +
  'IDR=30000000/75000000/300000000 VND=50000000/125000000/500000000 NGN=3000000/7500000/30000000'

export const ledgerSettings = {
  ...serviceSettings,
  ...topicSettings,
  COMMAND_MAC_FILE: jsonFile(commandMacKeys).describe(
    'The keys of the MAC on commands: a gateway signs by the first, a ledger takes what any of them signed.',
  ),
  LIMITS_UNVERIFIED: limitDefaults
    .prefault(UNVERIFIED)
    .describe(
      "Limits of wallets whose owner's identity is not verified, as `CURRENCY=PER_TRANSACTION/DAY/MONTH` in whole units, `*` for every other currency: [limits](operations.md#limits).",
    ),
  LIMITS_VERIFIED: limitDefaults
    .prefault(UNVERIFIED.replace(/\d+/g, amount => `${amount}0`))
    .describe("The same of wallets whose owner's identity is verified."),
  MAX_BATCH: z.coerce
    .number()
    .int()
    .min(1)
    .max(5_000)
    .default(500)
    .describe('Most commands in one SQL transaction: more gains little, and each waits for all of them.'),
  BOOKS_CHECK_SECONDS: z.coerce
    .number()
    .min(0)
    .max(3_600)
    .default(10)
    .describe(
      'How often the books of what was decided since are checked; 0: never. By primary keys, so it costs little.',
    ),
  BOOKS_CHECK_EVENTS: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(2_000)
    .describe(
      'Most events in one such check. Beyond that the newest are checked, and the full check covers the others.',
    ),
  BOOKS_FULL_CHECK_SECONDS: z.coerce
    .number()
    .min(0)
    .max(604_800)
    .default(3_600)
    .describe(
      'How often all books are checked, as `npm run verify-books` does; 0: never. It reads every table, in short ranges.',
    ),
}
