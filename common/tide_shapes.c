/*
 * tide_shapes.c
 *		The relations and types that pgoutput has announced in a session.
 *
 * Owns: remembering them, and the record that describes a relation in a frame.
 * Does not own: which frame needs which description (tide_capture.c).
 */
#include "tide_shapes.h"

#include <stdlib.h>
#include <string.h>

typedef struct Type
{
	TideBuf schema;
	TideBuf name;
} Type;

static void
free_shape(void *value)
{
	TideShape *shape = value;

	tide_buf_free(&shape->record);
	free(shape);
}

static void
free_type(void *value)
{
	Type *type = value;

	tide_buf_free(&type->schema);
	tide_buf_free(&type->name);
	free(type);
}

void
tide_shapes_free(TideShapes *shapes)
{
	tide_oidmap_free(&shapes->relations, free_shape);
	tide_oidmap_free(&shapes->types, free_type);
}

TideShape *
tide_shapes_find(const TideShapes *shapes, uint32_t relid)
{
	return tide_oidmap_get(&shapes->relations, relid);
}

/* pgoutput leaves out the name of the server's own schema. */
static TideStr
schema_or_catalog(TideStr schema)
{
	static const char catalog[] = "pg_catalog";

	return schema.len > 0 ? schema : (TideStr){.data = catalog, .len = sizeof(catalog) - 1};
}

/* ---- relations ---- */

static bool
write_buf(TideBuf *out, const TideBuf *text)
{
	return tide_write_str(out, tide_buf_cstr(text), text->len);
}

/* A type that was not announced has the same number everywhere. */
static void
write_column(const TideShapes *shapes, const PgColumn *column, TideBuf *out)
{
	static const TideBuf none;
	const Type *type = tide_oidmap_get(&shapes->types, column->type);

	tide_write_u8(out, column->flags & 1);
	tide_write_str(out, column->name.data, column->name.len);
	tide_write_u32(out, column->type);
	tide_write_u32(out, column->typmod);
	write_buf(out, type != NULL ? &type->schema : &none);
	write_buf(out, type != NULL ? &type->name : &none);
}

/* The payload of the record from replident on; false: out of memory. */
static bool
write_shape(const TideShapes *shapes, const PgRelation *announced, TideBuf *out)
{
	TideStr schema = schema_or_catalog(announced->schema);
	TideCursor columns = announced->columns;
	PgColumn column;

	tide_write_u8(out, announced->replident);
	tide_write_str(out, schema.data, schema.len);
	tide_write_str(out, announced->name.data, announced->name.len);
	tide_write_u16(out, announced->n_columns);
	for (int i = 0; i < announced->n_columns && tide_pg_column(&columns, &column); i++)
		write_column(shapes, &column, out);
	return !out->oom;
}

/* FNV-1a of 64 bits. */
static uint64_t
fingerprint(const TideBuf *shape)
{
	uint64_t hash = UINT64_C(0xCBF29CE484222325);

	for (size_t i = 0; i < shape->len; i++)
		hash = (hash ^ (uint8_t) shape->data[i]) * UINT64_C(0x100000001B3);
	return hash;
}

static bool
write_record(const TideShapes *shapes, const PgRelation *announced, TideBuf *out)
{
	TideBuf shape;
	size_t begun = tide_record_begin(out, 'R');

	tide_buf_init(&shape);
	if (!write_shape(shapes, announced, &shape))
		out->oom = true;
	tide_write_u32(out, announced->relid);
	tide_write_u64(out, fingerprint(&shape));
	tide_buf_append(out, shape.data, shape.len);
	tide_record_end(out, begun);
	tide_buf_free(&shape);
	return !out->oom;
}

/* The relation's entry, made if this is its first announcement. */
static TideShape *
shape_entry(TideShapes *shapes, uint32_t relid)
{
	TideShape *shape = tide_shapes_find(shapes, relid);

	if (shape != NULL)
		return shape;
	shape = calloc(1, sizeof(*shape));
	if (shape == NULL)
		return NULL;
	tide_buf_init(&shape->record);
	if (!tide_oidmap_add(&shapes->relations, relid, shape))
	{
		free_shape(shape);
		return NULL;
	}
	return shape;
}

static bool
same_bytes(const TideBuf *a, const TideBuf *b)
{
	return a->len == b->len && memcmp(tide_buf_cstr(a), tide_buf_cstr(b), a->len) == 0;
}

bool
tide_shapes_relation(TideShapes *shapes, const PgRelation *announced)
{
	TideShape *shape = shape_entry(shapes, announced->relid);
	TideBuf record;
	bool ok;

	tide_buf_init(&record);
	ok = shape != NULL && write_record(shapes, announced, &record);
	if (ok && !same_bytes(&shape->record, &record))
	{
		TideBuf old = shape->record;

		shape->record = record;
		shape->n_columns = announced->n_columns;
		shape->offset = 0;
		record = old;
	}
	tide_buf_free(&record);
	return ok;
}

/* ---- types ---- */

static Type *
type_entry(TideShapes *shapes, uint32_t oid)
{
	Type *type = tide_oidmap_get(&shapes->types, oid);

	if (type != NULL)
		return type;
	type = calloc(1, sizeof(*type));
	if (type == NULL)
		return NULL;
	tide_buf_init(&type->schema);
	tide_buf_init(&type->name);
	if (!tide_oidmap_add(&shapes->types, oid, type))
	{
		free_type(type);
		return NULL;
	}
	return type;
}

bool
tide_shapes_type(TideShapes *shapes, const PgType *announced)
{
	TideStr schema = schema_or_catalog(announced->schema);
	Type *type = type_entry(shapes, announced->type);

	if (type == NULL)
		return false;
	tide_buf_reset(&type->schema);
	tide_buf_reset(&type->name);
	return tide_buf_append(&type->schema, schema.data, schema.len) &&
		   tide_buf_append(&type->name, announced->name.data, announced->name.len);
}
