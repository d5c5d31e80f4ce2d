# Rows over NATS on bad days of the broker: streams and consumers deleted and purged, a region away
# for longer than streams keep frames, brokers killed, a slot lost.  Rows are asked for again where
# that helps; only where it can't are they copied again, and loudly.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $STREAM = 'TIDE_ROWS_us-east';
my $mesh = PgTide::Mesh->new(
	transport    => 'nats',
	sides        => [qw(us eu ap)],
	link_options => { max_age => 5 });
$mesh->sql_all('CREATE TABLE t (id bigint PRIMARY KEY, v text)');
$mesh->class('shared');
$mesh->add_table('t', 'shared');
$mesh->start_relays;
$mesh->link('eu', 'us');
$mesh->link('ap', 'us');
ok(defined $mesh->wait_copied($_, 'us'), "$_ streams") for qw(eu ap);
my $n = 0;

# Rows at us, in several transactions.
sub write_rows
{
	my ($why) = @_;
	$mesh->sql('us', join ';', map { $n++; "INSERT INTO t VALUES ($n, '$why')" } 1 .. 20);
	return;
}

sub arrive
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$mesh->settle_one('us', 'eu', 90);
	$mesh->settle_one('us', 'ap', 90);
	return $mesh->same_tables($name, ['t']);
}

write_rows('plain');
arrive('rows arrive');

$mesh->nats('us')->ctl('stream-delete', $STREAM);
write_rows('after the stream was deleted');
arrive('the origin\'s stream was deleted: it is made again, and what it had is published again');

$mesh->nats('eu')->ctl('stream-delete', $STREAM);
write_rows('after the copy was deleted');
arrive('the copy of the stream was deleted: it is made again');

$mesh->nats('eu')->ctl('consumer-delete', $STREAM, 'tide_eu-west');
write_rows('after the consumer was deleted');
arrive('the consumer was deleted: it is made again');

# Purged while eu is not looking: what it lacks is in no stream any more.
$mesh->relay('eu')->stop;
write_rows('purged');
$mesh->settle_one('us', 'ap');
$mesh->nats($_)->ctl('stream-purge', $STREAM) for qw(us eu);
write_rows('after purging');
$mesh->start_relay('eu');
arrive('what was purged from the streams is asked for again');

# Away for longer than frames are kept.
$mesh->relay('eu')->stop;
write_rows('too old');
my $last = $mesh->nats('eu')->ctl('stream-info', $STREAM)->{state}{last_seq};
ok(
	defined wait_until(
		sub { $mesh->nats('eu')->ctl('stream-info', $STREAM)->{state}{first_seq} > $last + 3 }, 30,
		'frames to be dropped'),
	'eu is away for longer than frames are kept');
$mesh->start_relay('eu');
arrive('what was dropped is asked for again');

# Brokers killed; one of them also loses its disk.
for my $side (qw(us eu ap))
{
	$mesh->nats($side)->kill9;
	write_rows("killed in $side");
	$mesh->nats($side)->start;
	write_rows("started in $side");
	arrive("the broker of $side was killed");
}
$mesh->nats('us')->kill9;
system('rm', '-rf', "$ENV{TIDE_DATA}/nats-us/data");
write_rows('without a disk');
$mesh->nats('us')->start;
arrive('the origin\'s broker lost its disk');

# The relay of the origin starts anew: it goes on where the stream ends.
$mesh->relay('us')->kill9;
write_rows('no relay');
$mesh->start_relay('us');
arrive('the origin\'s relay was killed');
$mesh->nothing_special('until here nothing was parked, nothing was copied twice');

# The slot is lost: what was not read can't be had any more.
$mesh->relay('us')->stop;
write_rows('not decoded');
$mesh->sql('us', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
$mesh->sql('us', 'DELETE FROM t WHERE id <= 20');
$mesh->start_relay('us');
arrive('the slot was dropped: rows are copied again');
for my $side (qw(eu ap))
{
	is($mesh->sql($side, 'SELECT resyncs FROM tide.link'), 1, "$side copied once more");
	like($mesh->relay($side)->log_text, qr/level=error .*resync/, '... and said so loudly');
}
like($mesh->relay('us')->log_text, qr/level=error .*slot .* was lost/, 'so did the publisher');
write_rows('after all that');
arrive('rows flow as before');

is_deeply($mesh->stop, { map { $_ => 0 } $mesh->sides }, 'the relays end with status 0');
done_testing;
