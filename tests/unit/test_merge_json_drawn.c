/* The strategy json (M), on documents that are drawn, against another implementation of its
 * rules. */
#include <json-c/json.h>

#include "check.h"
#include "policy/merge_json.h"

/* The rules once more, on json-c's objects: NULL is a conflict, and JSON null as well (the
 * documents drawn have none). */
typedef struct json_object object;

static bool has(object *in, const char *key, object **value)
{
	*value = NULL;
	return in && json_object_object_get_ex(in, key, value);
}

static bool is(object *o, enum json_type type)
{
	return o && json_object_is_type(o, type);
}

static bool equal(object *a, object *b)
{
	return a && b && json_object_equal(a, b);
}

/* Is every element of inner in outer, in order? *added gets the others, with the number
 * of those of inner before each. */
static bool only_added(
	object *inner, object *outer, object *added[], size_t at[], size_t *n)
{
	size_t i = 0;

	*n = 0;
	for (size_t k = 0; k < json_object_array_length(outer); k++) {
		object *e = json_object_array_get_idx(outer, k);

		if (i < json_object_array_length(inner) &&
			equal(json_object_array_get_idx(inner, i), e)) {
			i++;
		} else {
			added[*n] = e;
			at[(*n)++] = i;
		}
	}
	return i == json_object_array_length(inner);
}

enum { MAX_ELEMENTS = 32 };

static object *merged_array(object *b, object *c, object *n)
{
	object *by_c[MAX_ELEMENTS], *by_n[MAX_ELEMENTS];
	size_t at_c[MAX_ELEMENTS], at_n[MAX_ELEMENTS], n_c, n_n;
	size_t length = json_object_array_length(b);
	object *m = json_object_new_array();
	bool same_length = json_object_array_length(c) == length &&
			   json_object_array_length(n) == length;

	for (size_t i = 0; same_length && i < length; i++) {
		object *x = json_object_array_get_idx(b, i);
		object *y = json_object_array_get_idx(c, i);
		object *z = json_object_array_get_idx(n, i);

		if (!equal(x, y) && !equal(x, z) && !equal(y, z)) {
			json_object_put(m);
			return NULL;
		}
		json_object_array_add(m, json_object_get(equal(x, y) ? z : y));
	}
	if (same_length)
		return m;
	if (!only_added(b, c, by_c, at_c, &n_c) || !only_added(b, n, by_n, at_n, &n_n)) {
		json_object_put(m);
		return NULL;
	}
	bool twin[MAX_ELEMENTS] = {false}, taken[MAX_ELEMENTS] = {false};
	for (size_t i = 0; i < n_n; i++) {
		for (size_t k = 0; k < n_c && !twin[i]; k++) {
			if (!taken[k] && equal(by_n[i], by_c[k]))
				twin[i] = taken[k] = true;
		}
	}
	for (size_t gap = 0; gap <= length; gap++) {
		for (size_t i = 0; i < n_c; i++) {
			if (at_c[i] == gap)
				json_object_array_add(m, json_object_get(by_c[i]));
		}
		for (size_t i = 0; i < n_n; i++) {
			if (at_n[i] == gap && !twin[i])
				json_object_array_add(m, json_object_get(by_n[i]));
		}
		if (gap < length)
			json_object_array_add(
				m, json_object_get(json_object_array_get_idx(b, gap)));
	}
	return m;
}

static object *reference(object *b, object *c, object *n);

static bool merge_key(object *m, const char *key, object *b, object *c, object *n)
{
	object *x, *y, *z, *one = NULL;
	bool in_b = has(b, key, &x), in_c = has(c, key, &y), in_n = has(n, key, &z);

	if (in_c && in_n) {
		one = reference(x, y, z);
		if (!one)
			return false;
	} else if (!in_b && (in_c || in_n)) {
		one = json_object_get(in_c ? y : z);
	} else if (in_c || in_n) {
		return equal(x, in_c ? y : z); /* changed, and removed by the other */
	}
	if (one)
		json_object_object_add(m, key, one);
	return true;
}

static object *reference(object *b, object *c, object *n)
{
	bool clean = true;
	object *m;

	if (equal(c, n) || equal(b, n))
		return json_object_get(c);
	if (equal(b, c))
		return json_object_get(n);
	if (is(b, json_type_array) && is(c, json_type_array) && is(n, json_type_array))
		return merged_array(b, c, n);
	if (!is(c, json_type_object) || !is(n, json_type_object))
		return NULL;
	m = json_object_new_object();
	b = is(b, json_type_object) ? b : NULL;
	json_object_object_foreach(c, key, value)
	{
		(void)value;
		clean = clean && merge_key(m, key, b, c, n);
	}
	json_object_object_foreach(n, name, other)
	{
		object *ignored;

		(void)other;
		clean = clean && (has(c, name, &ignored) || merge_key(m, name, b, c, n));
	}
	if (!clean)
		json_object_put(m);
	return clean ? m : NULL;
}

static uint64_t state = 11;

static unsigned draw(unsigned n)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % n;
}

static const char *const keys[] = {"a", "b", "c", "d e", "é", "f\n", "g"};

static object *draw_value(int depth)
{
	object *o;
	unsigned n = draw(5);

	switch (draw(depth < 3 ? 6 : 3)) {
	case 0:
		return json_object_new_int((int)draw(4));
	case 1:
		return json_object_new_string(keys[draw(ARRAY_SIZE(keys))]);
	case 2:
		return json_object_new_boolean(draw(2));
	case 3:
		o = json_object_new_array();
		for (unsigned i = 0; i < n; i++)
			json_object_array_add(o, draw_value(depth + 2));
		return o;
	default:
		o = json_object_new_object();
		for (unsigned i = 0; i < n; i++)
			json_object_object_add(
				o, keys[draw(ARRAY_SIZE(keys))], draw_value(depth + 1));
		return o;
	}
}

static object *edited_array(object *o)
{
	object *edited = json_object_new_array();
	unsigned what = draw(4), at = draw(1 + (unsigned)json_object_array_length(o));

	for (size_t i = 0; i < json_object_array_length(o); i++) {
		if (i == at && what < 2)
			json_object_array_add(edited, draw_value(2));
		if (i == at && what == 2)
			json_object_array_add(edited, draw_value(3));
		else if (i != at || what != 3)
			json_object_array_add(
				edited, json_object_get(json_object_array_get_idx(o, i)));
	}
	if (at == json_object_array_length(o))
		json_object_array_add(edited, draw_value(2));
	return edited;
}

/* A copy with changes: of values, of keys, of elements. */
static object *edited(object *o, int depth)
{
	object *copy;

	if (draw(4) == 0 || (depth && draw(3)))
		return json_object_get(o);
	if (is(o, json_type_array))
		return edited_array(o);
	if (!is(o, json_type_object))
		return draw_value(2);
	copy = json_object_new_object();
	json_object_object_foreach(o, key, value)
	{
		unsigned what = draw(8);

		if (what == 0)
			json_object_object_add(copy, key, draw_value(2));
		else if (what < 7)
			json_object_object_add(copy, key, edited(value, depth + 1));
	}
	if (draw(2))
		json_object_object_add(copy, keys[draw(ARRAY_SIZE(keys))], draw_value(2));
	return copy;
}

/* Written in one of several ways. */
static struct content written(object *o, struct buf *out)
{
	static const int flags[] = {JSON_C_TO_STRING_PLAIN, JSON_C_TO_STRING_SPACED,
		JSON_C_TO_STRING_PRETTY, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_PRETTY_TAB};

	buf_puts(out, json_object_to_json_string_ext(o, flags[draw(ARRAY_SIZE(flags))]));
	if (draw(2))
		buf_putc(out, '\n');
	return (struct content){.data = out->data, .size = out->len};
}

static int run(const struct content c[3], struct buf *merged, enum merge_answer *answer)
{
	auto_buf why = {0};

	CHECK_EQ(merge_json(&c[0], true, &c[1], &c[2], answer, merged, &why), 0);
	CHECK_EQ(*answer == MERGE_CONFLICT, why.len > 0);
	CHECK_EQ(*answer == MERGE_CONFLICT, merged->len == 0);
	return *answer == MERGE_CLEAN;
}

static bool check_round(object *o[3])
{
	auto_buf merged = {0}, again = {0}, swapped = {0};
	struct buf b[3] = {{0}};
	struct content c[3], other[3];
	object *expected = reference(o[0], o[1], o[2]), *got;
	enum merge_answer answer, same;

	for (int i = 0; i < 3; i++)
		c[i] = written(o[i], &b[i]);
	other[0] = c[0];
	other[1] = c[2];
	other[2] = c[1];
	run(c, &merged, &answer);
	run(c, &again, &same); /* deterministic */
	CHECK_EQ(answer, same);
	CHECK_STR(merged.data ?: "", again.data ?: "");
	run(other, &swapped, &same); /* a conflict whoever was first */
	CHECK_EQ(answer, same);
	if ((answer == MERGE_CLEAN) != !!expected) {
		fprintf(stderr, "%s\n%s\n%s\n=> %s\n", c[0].data, c[1].data, c[2].data,
			merged.data ?: "conflict");
		exit(1);
	}
	if (expected) {
		got = json_tokener_parse(merged.data);
		if (!json_object_equal(got, expected)) {
			fprintf(stderr, "%s\n%s\n%s\n=> %s\nnot %s\n", c[0].data, c[1].data,
				c[2].data, merged.data,
				json_object_to_json_string(expected));
			exit(1);
		}
		json_object_put(got);
		json_object_put(expected);
	}
	for (int i = 0; i < 3; i++)
		buf_done(&b[i]);
	return expected;
}

static void test_drawn(void)
{
	int n_clean = 0, n_rounds = 30000;

	for (int round = 0; round < n_rounds; round++) {
		object *o[3] = {draw_value(0), NULL, NULL};

		o[1] = edited(o[0], 0);
		o[2] = edited(o[0], 0);
		n_clean += check_round(o);
		for (int i = 0; i < 3; i++)
			json_object_put(o[i]);
	}
	CHECK(n_clean > n_rounds / 4); /* or the test shows nothing */
	CHECK(n_clean < n_rounds * 9 / 10);
}

int main(void)
{
	test_drawn();
	return 0;
}
