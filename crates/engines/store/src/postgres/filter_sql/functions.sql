-- What filters need beyond PostgreSQL's own functions. Each is meant as model::filter::semantics means it.

-- A value by its class: a number n with its text t, or a text t. NULL is no row.
DO $$ BEGIN
  CREATE TYPE groundswell.cell AS (n double precision, t text);
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

-- JSON of a text; NULL of what is none, or what jsonb cannot hold.
-- Not for parallel plans: a worker can begin no subtransaction, which catching an error is.
CREATE OR REPLACE FUNCTION groundswell.json_of(v text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS $$
BEGIN
  IF v IS NULL OR v = '' OR left(ltrim(v, E' \t\r\n'), 1) !~ '[\[{"0-9tfn-]' THEN
    RETURN NULL;
  END IF;
  RETURN v::jsonb;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;

-- The text of a number that is no integer, as SQLite prints it: with a fraction, and an exponent from 1e17 on and
-- below 1e-4.
CREATE OR REPLACE FUNCTION groundswell.text_of_real(v double precision) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
  shown text; digits text; exponent int; mark int; point int; sign text := '';
BEGIN
  IF v = 0 THEN RETURN '0.0'; END IF;
  IF v = 'Infinity' THEN RETURN 'Inf'; END IF;
  IF v = '-Infinity' THEN RETURN '-Inf'; END IF;
  IF v < 0 THEN sign := '-'; END IF;
  shown := abs(v)::text;
  mark := position('e' in shown);
  IF mark > 0 THEN
    exponent := substr(shown, mark + 1)::int;
    shown := substr(shown, 1, mark - 1);
  ELSE
    exponent := 0;
  END IF;
  point := position('.' in shown);
  IF point = 0 THEN point := length(shown) + 1; END IF;
  digits := replace(shown, '.', '');
  exponent := exponent + point - 2;
  WHILE left(digits, 1) = '0' AND length(digits) > 1 LOOP
    digits := substr(digits, 2);
    exponent := exponent - 1;
  END LOOP;
  digits := rtrim(digits, '0');
  IF exponent < -4 OR exponent > 16 THEN
    RETURN sign || left(digits, 1) || '.' || coalesce(nullif(substr(digits, 2), ''), '0') || 'e'
      || CASE WHEN exponent < 0 THEN '-' ELSE '+' END || lpad(abs(exponent)::text, greatest(2, length(abs(exponent)::text)), '0');
  END IF;
  IF exponent < 0 THEN
    RETURN sign || '0.' || repeat('0', -exponent - 1) || digits;
  END IF;
  IF length(digits) <= exponent + 1 THEN
    RETURN sign || digits || repeat('0', exponent + 1 - length(digits)) || '.0';
  END IF;
  RETURN sign || left(digits, exponent + 1) || '.' || substr(digits, exponent + 2);
END $$;

-- The text of a stored number: whole ones are integers.
CREATE OR REPLACE FUNCTION groundswell.text_of_number(v double precision) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v = trunc(v) AND v >= -9223372036854775808 AND v < 9223372036854775808 THEN v::numeric::bigint::text
    ELSE groundswell.text_of_real(v) END
$$;

-- A number of any size as the nearest that there is: the cast alone fails past both ends.
CREATE OR REPLACE FUNCTION groundswell.real_of(v numeric) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v > 1.7976931348623157e308 THEN 'Infinity'::double precision
    WHEN v < -1.7976931348623157e308 THEN '-Infinity'::double precision
    WHEN abs(v) < 4.95e-324 THEN 0::double precision ELSE v::double precision END
$$;

-- The number that a text is, blanks around it aside; NULL of what is none.
CREATE OR REPLACE FUNCTION groundswell.number_in(v text) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN length(v) < 400 AND btrim(v, E' \t\n\v\f\r') ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$'
    THEN groundswell.real_of(btrim(v, E' \t\n\v\f\r')::numeric) END
$$;

CREATE OR REPLACE FUNCTION groundswell.cell_of_text(v text) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NOT NULL THEN ROW(NULL, v)::groundswell.cell END
$$;

CREATE OR REPLACE FUNCTION groundswell.cell_of_number(v double precision) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NOT NULL THEN ROW(v, groundswell.text_of_number(v))::groundswell.cell END
$$;

CREATE OR REPLACE FUNCTION groundswell.cell_of_real(v double precision) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NOT NULL THEN ROW(v, groundswell.text_of_real(v))::groundswell.cell END
$$;

-- A scalar of JSON; objects and arrays are told by whoever has their own text.
CREATE OR REPLACE FUNCTION groundswell.cell_of_json(v jsonb) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE jsonb_typeof(v)
    WHEN 'string' THEN ROW(NULL, v #>> '{}')::groundswell.cell
    WHEN 'number' THEN CASE WHEN (v #>> '{}') ~ '^-?[0-9]{1,18}$' THEN ROW((v #>> '{}')::double precision, v #>> '{}')::groundswell.cell
      ELSE groundswell.cell_of_real(groundswell.real_of((v #>> '{}')::numeric)) END
    WHEN 'boolean' THEN CASE WHEN v = 'true' THEN ROW(1, '1')::groundswell.cell ELSE ROW(0, '0')::groundswell.cell END
    WHEN 'object' THEN ROW(NULL, v::text)::groundswell.cell
    WHEN 'array' THEN ROW(NULL, v::text)::groundswell.cell
  END
$$;

-- A column of JSON text as a whole: SQLite makes numbers of texts that are some.
CREATE OR REPLACE FUNCTION groundswell.cell_of_json_column(v text) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NULL THEN NULL
    WHEN groundswell.number_in(v) IS NOT NULL THEN groundswell.cell_of_number(groundswell.number_in(v))
    ELSE ROW(NULL, v)::groundswell.cell END
$$;

-- The value of a JSON column: the whole column, whose text v is.
CREATE OR REPLACE FUNCTION groundswell.cell_at(v text, j jsonb) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NULL THEN NULL WHEN j IS NULL THEN ROW(NULL, v)::groundswell.cell
    WHEN jsonb_typeof(j) IN ('object', 'array') THEN ROW(NULL, v)::groundswell.cell
    ELSE groundswell.cell_of_json(j) END
$$;

-- An item of an array. The operator alone takes a scalar for an array of itself.
CREATE OR REPLACE FUNCTION groundswell.item(j jsonb, place int) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(j) = 'array' THEN j -> place END
$$;

-- The value at a path, where j is; objects and arrays keep the text that they have in v.
CREATE OR REPLACE FUNCTION groundswell.cell_at(v text, j jsonb, path text[]) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(j) IN ('object', 'array') THEN ROW(NULL, (v::json #> path)::text)::groundswell.cell
    ELSE groundswell.cell_of_json(j) END
$$;

-- A column as a list: a single value is a list of itself.
CREATE OR REPLACE FUNCTION groundswell.list(j jsonb, v text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(j) = 'array' THEN j WHEN v IS NULL THEN '[null]'::jsonb
    WHEN jsonb_typeof(j) = 'number' THEN jsonb_build_array(j) ELSE jsonb_build_array(v) END
$$;

-- The same of a column of text, in which a number is text.
CREATE OR REPLACE FUNCTION groundswell.list(v text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL UNSAFE AS $$
  SELECT CASE WHEN v LIKE '[%' AND jsonb_typeof(groundswell.json_of(v)) = 'array' THEN groundswell.json_of(v)
    WHEN v IS NULL THEN '[null]'::jsonb ELSE jsonb_build_array(v) END
$$;

CREATE OR REPLACE FUNCTION groundswell.list_length(j jsonb, v text) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN jsonb_typeof(j) = 'array' THEN jsonb_array_length(j) WHEN coalesce(v, '') = '' THEN 0 ELSE 1 END::double precision
$$;

CREATE OR REPLACE FUNCTION groundswell.number_of(c groundswell.cell) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce((c).n, groundswell.number_in((c).t))
$$;

-- What numeric affinity makes of a value.
CREATE OR REPLACE FUNCTION groundswell.as_number(c groundswell.cell) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN (c).t IS NULL OR (c).n IS NOT NULL OR groundswell.number_in((c).t) IS NULL THEN c
    ELSE groundswell.cell_of_number(groundswell.number_in((c).t)) END
$$;

-- What text affinity makes of it.
CREATE OR REPLACE FUNCTION groundswell.as_text(c groundswell.cell) RETURNS groundswell.cell
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN (c).t IS NOT NULL THEN ROW(NULL, (c).t)::groundswell.cell END
$$;

-- Below nought, nought or above: numbers before texts, texts by bytes. NULL when one is.
CREATE OR REPLACE FUNCTION groundswell.compare(a groundswell.cell, b groundswell.cell) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN (a).t IS NULL OR (b).t IS NULL THEN NULL
    WHEN (a).n IS NOT NULL AND (b).n IS NOT NULL THEN CASE WHEN (a).n < (b).n THEN -1 WHEN (a).n > (b).n THEN 1 ELSE 0 END
    WHEN (a).n IS NOT NULL THEN -1
    WHEN (b).n IS NOT NULL THEN 1
    WHEN (a).t COLLATE "C" < (b).t COLLATE "C" THEN -1
    WHEN (a).t COLLATE "C" > (b).t COLLATE "C" THEN 1 ELSE 0 END
$$;

-- As =, but NULL is the same as NULL.
CREATE OR REPLACE FUNCTION groundswell.same(a groundswell.cell, b groundswell.cell) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN (a).t IS NULL OR (b).t IS NULL THEN (a).t IS NULL AND (b).t IS NULL
    ELSE groundswell.compare(a, b) = 0 END
$$;

CREATE OR REPLACE FUNCTION groundswell.is_empty(c groundswell.cell) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (c).t IS NULL OR ((c).n IS NULL AND (c).t = '')
$$;

CREATE OR REPLACE FUNCTION groundswell.same_or_empty(a groundswell.cell, b groundswell.cell) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN groundswell.is_empty(a) OR groundswell.is_empty(b) THEN groundswell.is_empty(a) AND groundswell.is_empty(b)
    ELSE groundswell.compare(a, b) = 0 END
$$;

-- LIKE with \ as its escape, ASCII letters alike in either case; a pattern that ends in an escape matches nothing.
CREATE OR REPLACE FUNCTION groundswell.like_(v text, pattern text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN v IS NULL OR pattern IS NULL THEN NULL
    WHEN length(substring(pattern from '\\*$')) % 2 = 1 THEN false
    ELSE lower(v COLLATE "C") LIKE lower(pattern COLLATE "C") ESCAPE '\' END
$$;

-- Kilometres by the spherical law of cosines, on a sphere of 6371 km; NULL where rounding pushes the cosine past 1.
CREATE OR REPLACE FUNCTION groundswell.distance(lon_a double precision, lat_a double precision, lon_b double precision, lat_b double precision)
RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN abs(c) <= 1 THEN 6371 * acos(c) END FROM (SELECT
    cos(radians(lat_a)) * cos(radians(lat_b)) * cos(radians(lon_b) - radians(lon_a)) + sin(radians(lat_a)) * sin(radians(lat_b)) AS c) AS x
$$;

-- Keys of an order: the class (none for NULL), the number, the text of what is no number.
CREATE OR REPLACE FUNCTION groundswell.class_of(c groundswell.cell) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN (c).t IS NULL THEN NULL WHEN (c).n IS NOT NULL THEN 1 ELSE 2 END
$$;
CREATE OR REPLACE FUNCTION groundswell.n_of(c groundswell.cell) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (c).n $$;
CREATE OR REPLACE FUNCTION groundswell.t_of(c groundswell.cell) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT CASE WHEN (c).n IS NULL THEN (c).t END $$;

-- SQLite's strftime for the formats and modifiers that are used most; NULL of what is no time, and of others.
CREATE OR REPLACE FUNCTION groundswell.strftime(format text, v text, modifiers text[]) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
DECLARE
  at timestamp; shown text := ''; letter text; modifier text; parts text[]; place int := 1;
BEGIN
  IF format IS NULL OR v IS NULL OR v = '' THEN RETURN NULL; END IF;
  IF lower(v) = 'now' THEN
    at := date_trunc('milliseconds', now() AT TIME ZONE 'UTC');
  ELSIF v ~ '^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?(Z|)$' THEN
    at := rtrim(v, 'Z')::timestamp;
  ELSIF v ~ '^\d{2}:\d{2}(:\d{2}(\.\d+)?)?$' THEN
    at := ('2000-01-01 ' || v)::timestamp;
  ELSIF groundswell.number_in(v) BETWEEN 0 AND 5373484.5 THEN
    -- A Julian day.
    at := to_timestamp((groundswell.number_in(v) - 2440587.5) * 86400) AT TIME ZONE 'UTC';
  ELSE
    RETURN NULL;
  END IF;
  FOREACH modifier IN ARRAY modifiers LOOP
    parts := regexp_match(lower(modifier), '^\s*([+-]?\d+(?:\.\d+)?)\s+(second|minute|hour|day|month|year)s?\s*$');
    IF parts IS NOT NULL THEN
      at := at + (parts[1] || ' ' || parts[2])::interval;
    ELSIF lower(modifier) IN ('start of day', 'start of month', 'start of year') THEN
      at := date_trunc(substr(lower(modifier), 10), at);
    ELSIF lower(modifier) NOT IN ('utc', 'auto') THEN
      RETURN NULL;
    END IF;
  END LOOP;
  WHILE place <= length(format) LOOP
    letter := substr(format, place, 1);
    IF letter <> '%' THEN
      shown := shown || letter;
      place := place + 1;
      CONTINUE;
    END IF;
    letter := substr(format, place + 1, 1);
    place := place + 2;
    shown := shown || CASE letter
      WHEN 'Y' THEN to_char(at, 'YYYY') WHEN 'm' THEN to_char(at, 'MM') WHEN 'd' THEN to_char(at, 'DD')
      WHEN 'e' THEN lpad(extract(day FROM at)::int::text, 2, ' ')
      WHEN 'H' THEN to_char(at, 'HH24') WHEN 'I' THEN to_char(at, 'HH12') WHEN 'k' THEN lpad(extract(hour FROM at)::int::text, 2, ' ')
      WHEN 'M' THEN to_char(at, 'MI') WHEN 'S' THEN to_char(at, 'SS') WHEN 'f' THEN to_char(at, 'SS.MS')
      WHEN 'F' THEN to_char(at, 'YYYY-MM-DD') WHEN 'T' THEN to_char(at, 'HH24:MI:SS') WHEN 'R' THEN to_char(at, 'HH24:MI')
      WHEN 'j' THEN to_char(at, 'DDD') WHEN 'w' THEN extract(dow FROM at)::int::text WHEN 'u' THEN extract(isodow FROM at)::int::text
      WHEN 'p' THEN to_char(at, 'AM') WHEN 'P' THEN to_char(at, 'am')
      WHEN 's' THEN floor(extract(epoch FROM at))::bigint::text
      WHEN 'W' THEN lpad(((extract(doy FROM at)::int + 6 - (extract(isodow FROM at)::int - 1)) / 7)::text, 2, '0')
      WHEN 'U' THEN lpad(((extract(doy FROM at)::int + 6 - extract(dow FROM at)::int) / 7)::text, 2, '0')
      WHEN 'G' THEN to_char(at, 'IYYY') WHEN 'g' THEN to_char(at, 'IY') WHEN 'V' THEN to_char(at, 'IW')
      WHEN '%' THEN '%' END;
  END LOOP;
  RETURN shown;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format OR interval_field_overflow THEN
  RETURN NULL;
END $$;
