import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { serviceSettings } from '@pennywire/runtime/config.ts'

// The audit service never decodes, so it needs no schema registry.
const {
  REGISTRY_URL: _,
  REGISTRY_USERNAME: __,
  REGISTRY_PASSWORD: ___,
  REGISTRY_CA_FILE: ____,
  ...settings
} = serviceSettings

export const auditSettings = { ...settings, ...topicSettings }
