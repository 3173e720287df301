import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { databaseUrl } from './database-url.ts'
import { findUnsafeSettings } from './unsafe-settings.ts'

/** The settings, including those from files: the file at NAME_FILE contains the value of NAME. */
const withFiles = (
  env: NodeJS.ProcessEnv,
  names: string[],
  wrong: (name: string, message: string) => void,
) => {
  const settings = { ...env }
  for (const name of names) {
    const file = `${name}_FILE`
    const path = env[file]
    if (path === undefined || names.includes(file)) continue
    if (env[name] !== undefined) wrong(name, `is set, and ${file} as well`)
    try {
      settings[name] = readFileSync(path, 'utf8').trimEnd()
    } catch (error) {
      wrong(file, `${path} cannot be used: ${(error as Error).message}`)
    }
  }
  return settings
}

/**
 * Reads a process's settings from the environment once, strictly. Each setting may be in a file instead, at the path
 * NAME_FILE; secrets are. On wrong or unsafe settings it writes each name and rule to stderr and ends the process:
 * before the first message, not in the middle of one.
 */
export const loadConfig = <Shape extends z.ZodRawShape>(
  shape: Shape,
  env: NodeJS.ProcessEnv,
): Readonly<z.output<z.ZodObject<Shape>>> => {
  const names = Object.keys(shape)
  const wrong: string[] = []
  const add = (name: string, message: string) => wrong.push(`setting ${name}: ${message}\n`)
  const settings = withFiles(env, names, add)
  const parsed = z.object(shape).safeParse(settings)
  for (const issue of parsed.error?.issues ?? []) add(issue.path.join('.'), issue.message)
  for (const { name, message } of findUnsafeSettings(settings, names)) add(name, message)
  if (parsed.success && wrong.length === 0) return Object.freeze(parsed.data)
  for (const line of wrong) process.stderr.write(line)
  process.exit(2)
}

/** A setting that is a path to a text file, such as a certificate. */
export const textFile = z.string().transform((path, context): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    context.issues.push({ code: 'custom', input: path, message: `${path}: ${(error as Error).message}` })
    return z.NEVER
  }
})

/** The brokers' addresses and the credentials for them. */
export const kafkaSettings = {
  KAFKA_BROKERS: z
    .string()
    .min(1)
    .transform(list => list.split(','))
    .describe('`host:port`, several between commas.'),
  KAFKA_TLS: z.enum(['true', 'false']).optional().describe('Whether the brokers are asked by TLS.'),
  KAFKA_CA_FILE: textFile
    .optional()
    .describe(
      "PEM: the authority that the brokers' certificates are of, where it is none of the usual ones.",
    ),
  KAFKA_CERT_FILE: textFile
    .optional()
    .describe('PEM: a certificate of this service, where the brokers ask for one.'),
  KAFKA_KEY_FILE: textFile.optional().describe('PEM: the key of that certificate.'),
  KAFKA_SASL_MECHANISM: z
    .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
    .optional()
    .describe('How this service proves to the brokers who it is.'),
  KAFKA_SASL_USERNAME: z.string().min(1).optional().describe('As whom.'),
  KAFKA_SASL_PASSWORD: z.string().min(1).optional().describe('By which password.'),
}

/** The schema registry's address and the basic-authentication credentials for it. */
export const registrySettings = {
  REGISTRY_URL: z.url().describe('The schema registry: its Confluent-compatible API.'),
  REGISTRY_USERNAME: z.string().min(1).optional().describe('As whom it is asked, by basic authentication.'),
  REGISTRY_PASSWORD: z.string().optional().describe('By which password.'),
  REGISTRY_CA_FILE: textFile.optional().describe("PEM: the authority that the registry's certificate is of."),
}

/** The settings that every service has. */
export const serviceSettings = {
  INSTANCE_ID: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 . _ -')
    .describe("This process's name in logs, metrics and consumer groups; no two that run at once share one."),
  OPS_HOST: z
    .string()
    .default('127.0.0.1')
    .describe('Where `/readyz` and `/metrics` are: for operators only, never where clients reach.'),
  OPS_PORT: z.coerce.number().int().min(0).max(65_535).describe('0: a free one, which the log tells.'),
  OPS_KEEP_SECONDS: z.coerce
    .number()
    .min(0)
    .max(60)
    .default(1)
    .describe('For how long an answer of `/readyz` or `/metrics` is given again.'),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace'])
    .default('info')
    .describe('Lines below it are not written.'),
  ...kafkaSettings,
  ...registrySettings,
  DATABASE_URL: databaseUrl.describe(
    "The service's own schema, as its role. Several hosts: `postgres://role:secret@a:5432,b:5432/pennywire`; the one that takes writes is used.",
  ),
}

/** Why a file cannot be used, in one line and without its content: it may be a key. */
const reasonOf = (error: unknown): string => {
  if (error instanceof SyntaxError) return 'is not JSON'
  if (!(error instanceof z.ZodError)) return (error as Error).message
  return error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
}

/** A setting that is a path to a JSON file of the given schema, such as a key. A missing or bad file ends the start. */
export const jsonFile = <Schema extends z.ZodType>(schema: Schema) =>
  z.string().transform((path, context): z.output<Schema> => {
    try {
      return schema.parse(JSON.parse(readFileSync(path, 'utf8')))
    } catch (error) {
      context.issues.push({
        code: 'custom',
        input: path,
        message: `${path} cannot be used: ${reasonOf(error)}`,
      })
      return z.NEVER
    }
  })
