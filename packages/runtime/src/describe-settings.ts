import { z } from 'zod'

/** A longer default is shown up to its first space. */
const LONGEST_DEFAULT = 40

type Rule = { default?: unknown; minimum?: number; maximum?: number; enum?: string[] }

/** One table row per setting of a schema: its name, its default, its accepted values and its description. */
export const describeSettings = (shape: z.ZodRawShape): string[][] =>
  Object.entries(shape).map(([name, field]) => {
    const schema = field as z.ZodType
    const rule = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Rule
    return [`\`${name}\``, defaultText(schema, rule), ruleText(rule), schema.description ?? '']
  })

const defaultText = (schema: z.ZodType, { default: usual }: Rule): string => {
  if (usual === undefined) return schema.safeParse(undefined).success ? 'none' : '**must be set**'
  const text = String(usual)
  if (text === '') return 'none'
  return text.length <= LONGEST_DEFAULT ? `\`${text}\`` : `\`${text.slice(0, text.indexOf(' '))}\` …`
}

const ruleText = ({ minimum, maximum, enum: values }: Rule): string => {
  if (values) return values.map(value => `\`${value}\``).join(', ')
  return minimum === undefined || maximum === undefined ? '' : `${minimum} to ${maximum}`
}
