# Large payloads: what arrives, what is too large and where to, and what the relay needs of memory meanwhile.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::NatsWire;

my $MB = 1 << 20;
my $HIGH_WATER = 200 << 10;    # KiB

my $duo = PgTide::Duo->new(conf => "max_wal_size = 4GB\nsynchronous_commit = off\nautovacuum = off\n");

# Publishes count events of about that many bytes in one transaction; a single one does not compress.
sub publish
{
	my ($outbox, $bytes, $count, $key) = @_;
	my $text = $count > 1 ? q{repeat(md5(n::text), %d)}
	  : q{(SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, %d) i)};
	$duo->sql('us', sprintf qq{
		SELECT count(tide.outbox_publish('%s', 'blob', jsonb_build_object('n', n, 'x', $text), '{}', %s))
		FROM generate_series(1, %d) n}, $outbox, $bytes / 32, PgTide::Duo::literal($key), $count);
	return;
}

# Are these payloads in both databases the same, one for one?
sub same
{
	my ($outbox, $inbox, $name) = @_;
	my $sums = q{SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(payload::text), '' ORDER BY event_id)), '') FROM };
	my ($sent, $got) =
	  ($duo->sql('us', "$sums tide.${outbox}_outbox"), $duo->sql('eu', "$sums tide.${inbox}_inbox"));
	return is($got, $sent, $name);
}

sub memory_of
{
	my ($side, $what) = @_;
	my (undef, $high) = $duo->relay($side)->memory_kib;
	cmp_ok($high, '<', $HIGH_WATER, "$what: the relay in $side needed at most $high KiB");
	return;
}

sub test_direct
{
	$duo->sql('us', q{SELECT tide.outbox_create('straight')});
	$duo->sql('eu', q{SELECT tide.inbox_create('straight')});
	publish('straight', $MB, 1);
	publish('straight', 10 * $MB, 1);
	$duo->direct('us', 'straight', 'straight', 'eu', 'straight');
	ok(defined $duo->wait_count('eu', 'straight', 2), 'direct: 1 MB and 10 MB arrive');
	same('straight', 'straight', '... unchanged');
	publish('straight', $MB, 100);
	ok(defined $duo->wait_count('eu', 'straight', 102), 'direct: 100 of 1 MB arrive');
	memory_of('us', 'direct');
	return;
}

# More than the server's max_payload: one by one to the dead letters, the others go on.
sub test_too_large
{
	$duo->sql('us', q{SELECT tide.outbox_create('large')});
	$duo->sql('eu', q{SELECT tide.inbox_create('large')});
	$duo->outbox_to_nats('us', 'large-out', 'large', stream => 'LARGE', subject_template => 'large.us');
	$duo->inbox_from_nats('eu', 'large-in', 'large', stream => 'LARGE', subject => 'large.us');
	publish('large', 100, 1, 'K');
	publish('large', 10 * $MB, 1, 'K');
	publish('large', $MB - 100, 1, 'K');    # fits, but for its headers
	publish('large', 900_000, 1, 'K');
	publish('large', 100, 5, 'K');
	ok(defined $duo->wait_count('eu', 'large', 7), 'NATS: what fits into max_payload arrives');
	my $letters = $duo->rows('us', 'SELECT event_id, code, error, pipeline, outbox, key, length(payload::text) AS length'
		  . ' FROM tide.dead_letters ORDER BY id');
	is(scalar @$letters, 2, '... the others are dead letters');
	for my $letter (@$letters)
	{
		like($letter->{error}, qr/max_payload is 1048576/, "$letter->{length} bytes: the reason names max_payload");
		is($letter->{pipeline}, 'large-out', '... with the pipeline');
		is($letter->{key}, 'K', '... and the key');
	}
	is($duo->relay('us')->metric('pg_tide_events_failed_total', qr/large-out/), 2, '... and are counted');
	return $letters;
}

# With a larger max_payload they really go out.
sub test_retry
{
	my ($letters) = @_;
	$duo->change_nats($duo->nats_config("max_payload: 16MB\n"));
	ok(defined $duo->wait_state('us', 'large-out', 'running', 30), 'the broker is back with a larger max_payload');
	$duo->sql('us', "SELECT tide.dead_letter_retry(id) FROM tide.dead_letters");
	is($duo->sql('us', 'SELECT count(*) FROM tide.dead_letters'), 0, 'the letters are closed');
	ok(defined $duo->wait_count('eu', 'large', 9, 60), 'retried, both arrive');
	is($duo->sql('eu', "SELECT count(*) FROM tide.large_inbox WHERE event_id IN ('"
			  . join("','", map { $_->{event_id} } @$letters) . "')"),
		2, '... under the ids they had');
	is($duo->sql('us', 'SELECT count(*) FROM tide.dead_letters'), 0, '... and did not come back');
	return;
}

sub test_memory
{
	# Fresh processes: what they needed before does not count.
	$duo->stop_relays;
	publish('large', $MB, 100);
	$duo->start_relays;
	my $took = $duo->wait_count('eu', 'large', 109, 60);
	ok(defined $took, 'NATS: 100 of 1 MB arrive');
	note sprintf '100 MB in %.1f s', $took // -1;
	memory_of($_, 'NATS') for qw(us eu);
	return;
}

# Large messages in masses after many small ones, when the relay expects more small ones.
sub test_burst
{
	$duo->sql('eu', q{SELECT tide.inbox_create('burst')});
	$duo->nats->ctl('stream-create', 'BURST', '{"name": "BURST", "subjects": ["burst"], "storage": "file"}');
	my $wire = PgTide::NatsWire->new;
	$wire->pub('burst', "$_") for 1 .. 500;
	$wire->pub('burst', '"' . 'x' x $MB . '"') for 1 .. 300;
	$wire->store('burst', '"the last"');
	$duo->stop_relays;
	$duo->inbox_from_nats('eu', 'burst-in', 'burst', stream => 'BURST', subject => 'burst');
	$duo->start_relay('eu');
	ok(defined $duo->wait_count('eu', 'burst', 801, 60), 'a burst of 300 of 1 MB arrives');
	memory_of('eu', 'burst');
	return;
}

$duo->start_relays;
test_direct();
test_retry(test_too_large());
test_memory();
test_burst();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
