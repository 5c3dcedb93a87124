/*
 * A decoder for main.go to compare with: it loads the .gz named by its second
 * argument, and for each byte on standard input decodes it once, into memory
 * that has been touched, and prints the nanoseconds of CPU that this took.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(PEER_libdeflate)
#include <libdeflate.h>
static struct libdeflate_decompressor *d;
static size_t decode(const void *in, size_t n, void *out, size_t cap)
{
	size_t got = 0;
	if (!d)
		d = libdeflate_alloc_decompressor();
	return libdeflate_gzip_decompress(d, in, n, out, cap, &got) ? 0 : got;
}
#elif defined(PEER_isal)
#include <isa-l/igzip_lib.h>
static size_t decode(const void *in, size_t n, void *out, size_t cap)
{
	struct inflate_state s;
	isal_inflate_init(&s);
	s.next_in = (uint8_t *)in;
	s.avail_in = n;
	s.next_out = out;
	s.avail_out = cap;
	s.crc_flag = ISAL_GZIP;
	return isal_inflate(&s) || s.block_state != ISAL_BLOCK_FINISH ? 0 : s.total_out;
}
#elif defined(PEER_zlib)
#include <zlib.h>
static size_t decode(const void *in, size_t n, void *out, size_t cap)
{
	z_stream s = {.next_in = (void *)in, .avail_in = n, .next_out = out, .avail_out = cap};
	size_t got;
	if (inflateInit2(&s, 31) || inflate(&s, Z_FINISH) != Z_STREAM_END)
		return 0;
	got = s.total_out;
	inflateEnd(&s);
	return got;
}
#endif

int main(int argc, char **argv)
{
	size_t cap = strtoull(argv[1], NULL, 10);
	FILE *f = fopen(argv[2], "rb");
	if (!f || fseek(f, 0, SEEK_END))
		return 1;
	size_t n = ftell(f);
	rewind(f);
	void *in = malloc(n), *out = malloc(cap);
	if (fread(in, 1, n, f) != n)
		return 1;
	memset(out, 1, cap);
	while (getchar() != EOF) {
		struct timespec a, b;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
		size_t got = decode(in, n, out, cap);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
		if (got != cap)
			return 2;
		printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec);
		fflush(stdout);
	}
	return 0;
}
