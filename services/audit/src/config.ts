import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { jsonFile, serviceSettings } from '@pennywire/runtime/config.ts'
import { z } from 'zod'
import { checkpointKeys } from './checkpoint-keys.ts'

export const auditSettings = {
  ...serviceSettings,
  ...topicSettings,
  CHECKPOINT_KEY_FILE: jsonFile(checkpointKeys).describe(
    'Signs the checkpoints of the audit trail: a private Ed25519 JWK, or several keys, `{"keys": [...]}`, of which the first signs and the others (their public halves) verify.',
  ),
  CHECKPOINT_FILE: z
    .string()
    .min(1)
    .optional()
    .describe(
      'A file of this instance alone, outside the database, to which every checkpoint is appended. Without it only the topic and the database hold them.',
    ),
  CHECKPOINT_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(86_400)
    .default(60)
    .describe('For how long new records are without a signed checkpoint at most.'),
  CHECKPOINT_RECORDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000_000)
    .default(100_000)
    .describe('After this many records a checkpoint is signed sooner.'),
}
