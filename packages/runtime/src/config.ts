import { readFileSync } from 'node:fs'
import { z } from 'zod'

/**
 * Reads a service's settings from the environment once, strictly. On a wrong setting it names each one and its rule
 * on stderr and ends the process: before the first message, not in the middle of one.
 */
export const loadConfig = <Shape extends z.ZodRawShape>(
  shape: Shape,
  env: NodeJS.ProcessEnv,
): Readonly<z.output<z.ZodObject<Shape>>> => {
  const parsed = z.object(shape).safeParse(env)
  if (parsed.success) return Object.freeze(parsed.data)
  for (const issue of parsed.error.issues) {
    process.stderr.write(`setting ${issue.path.join('.')}: ${issue.message}\n`)
  }
  process.exit(2)
}

/** The settings that every service has. */
export const serviceSettings = {
  INSTANCE_ID: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 . _ -'),
  HTTP_HOST: z.string().default('127.0.0.1'),
  HTTP_PORT: z.coerce.number().int().min(0).max(65_535),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
  KAFKA_BROKERS: z
    .string()
    .min(1)
    .transform(list => list.split(',')),
  REGISTRY_URL: z.url(),
  DATABASE_URL: z.url(),
}

/** Why a file cannot be used, in one line and without what it holds: it may be a key. */
const reasonOf = (error: unknown): string => {
  if (error instanceof SyntaxError) return 'is not JSON'
  if (!(error instanceof z.ZodError)) return (error as Error).message
  return error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')
}

/** A setting that is a path to a JSON file of the given form, such as a key. A missing or odd file ends the start. */
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
