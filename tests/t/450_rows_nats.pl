# Rows over NATS, the plain case: three regions with a broker each; first copies, changes in all
# directions, one decode however many take them, rows and transactions of any size, tables added
# later, an origin that can be reached by its broker only; nothing left behind by removed links.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => 'nats', sides => [qw(us eu ap)]);
$mesh->sql_all('CREATE TABLE users (id bigint PRIMARY KEY, name text, note text)');
$mesh->class('shared');
$mesh->add_table('users', 'shared');
$mesh->sql('us', q{INSERT INTO users SELECT i, 'user ' || i, NULL FROM generate_series(1, 1000) i});
$mesh->start_relays;
$mesh->link_all;
ok(defined $mesh->wait_copied(@$_), "$_->[0] has a copy of $_->[1] and streams") for $mesh->ways;
$mesh->sql('us', q{INSERT INTO users VALUES (2000, 'new', 'by the stream')});
$mesh->sql('eu', q{INSERT INTO users SELECT i, 'user ' || i, NULL FROM generate_series(10001, 11000) i});
$mesh->sql('ap', q{UPDATE users SET note = 'from ap' WHERE id = 1});
$mesh->settle;
$mesh->same_tables('what was there and what came later is in all regions', ['users']);

# One decode for all.
is($mesh->sql('us', 'SELECT count(*) FROM pg_stat_replication'), 1, 'two regions take rows from one walsender');
is($mesh->sql('us', q{SELECT string_agg(region, ' ' ORDER BY region) FROM tide.rows_destination}), 'ap-east eu-west',
	'it waits for both');
my $stream = $mesh->nats('us')->ctl('stream-info', 'TIDE_ROWS_us-east');
is_deeply($stream->{config}{subjects}, ['tide.rows.us-east.*'], 'the stream has the subjects of this region');
is($stream->{config}{retention}, 'limits', 'the stream keeps what somebody has read, for others');

# Each destination's position gets to the slot, so WAL is let go.
my $now = $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
ok(
	defined $mesh->wait_value('us',
		"SELECT confirmed_flush_lsn >= '$now' FROM pg_replication_slots WHERE slot_name LIKE 'tide_rows_%'", 't', 30),
	'the slot is confirmed when both have it');

# A frame larger than a message may be; a transaction larger than a frame.
$mesh->sql('us', q{INSERT INTO users VALUES (3000, 'large',
	(SELECT string_agg(md5(i::text || random()), '') FROM generate_series(1, 100000) i))});
$mesh->sql('us', q{INSERT INTO users SELECT i, 'many', md5(i::text) FROM generate_series(100001, 200000) i});
$mesh->settle;
$mesh->same_tables('large rows and large transactions arrive', ['users']);

# What the relays count.
cmp_ok($mesh->relay('us')->metric('pg_tide_row_frames_sent_total', qr/pipeline="rows:publish"/), '>', 10,
	'frames that were published');
cmp_ok($mesh->relay('us')->metric('pg_tide_row_frames_stored_total', qr/pipeline="rows:publish"/), '>', 10,
	'... and acknowledged');
my ($raw, $wire) = map { $mesh->relay('us')->metric("pg_tide_row_bytes_${_}_total", qr/pipeline="rows:publish"/) } qw(raw wire);
cmp_ok($raw, '>', 2 * $wire, 'they are compressed');

# A table that comes later is copied, and flows.
$mesh->sql_all('CREATE TABLE later (id int PRIMARY KEY, v int)');
$mesh->sql('eu', 'INSERT INTO later SELECT i, i FROM generate_series(1, 100) i');
$mesh->add_table('later', 'shared');
ok(
	defined $mesh->wait_value($_, q{SELECT count(*) FROM later}, 100, 60), "a table added later is copied to $_")
  for qw(us ap);
$mesh->sql('eu', 'UPDATE later SET v = v + 1');
$mesh->settle;
$mesh->same_tables('... and its changes flow', ['later']);

# The origin's database can't be reached from eu any more: what was set up goes on.
$mesh->sql('eu', q{SELECT tide.region_add('us-east', 'host=127.0.0.1 port=1 user=relay dbname=postgres connect_timeout=2')});
$mesh->sql('us', q{INSERT INTO users VALUES (4000, 'without', 'a way to the database')});
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM users WHERE id = 4000', 1, 30),
	'rows come although the origin can be reached by its broker only');
$mesh->sql('eu', sprintf q{SELECT tide.region_add('us-east', '%s')}, $mesh->conninfo('us'));
$mesh->settle('and they still do when it can be reached again');
$mesh->nothing_special('nothing was parked, nothing was copied twice');

# One leaves: nothing is kept for it.  The last one leaves: nothing is left.
$mesh->unlink('eu', 'us');
ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.link WHERE region = 'us-east'}, 0, 30), 'a link is removed');
is($mesh->sql('us', q{SELECT string_agg(region, ' ') FROM tide.rows_destination}), 'ap-east', 'the publisher waits for the other');
$mesh->sql('us', q{INSERT INTO users VALUES (5000, 'for', 'ap only')});
$mesh->settle_one('us', 'ap');
is($mesh->sql('ap', 'SELECT count(*) FROM users WHERE id = 5000'), 1, 'the other goes on');
$mesh->unlink('ap', 'us');
ok(defined $mesh->wait_value('ap', q{SELECT count(*) FROM tide.link WHERE region = 'us-east'}, 0, 30), 'the last link is removed');
ok(defined wait_until(sub { !defined $mesh->slots('us') || $mesh->slots('us') eq '' }, 30, 'the slot to go'),
	'no slot stays behind');
is($mesh->sql('us', q{SELECT count(*) FROM tide.pipeline WHERE name = 'rows:publish'}), 0, '... and no publisher');
ok(
	defined wait_until(sub { !defined $mesh->nats($_)->stream_messages('TIDE_ROWS_us-east') }, 30, "the stream in $_ to go"),
	"... and no stream in $_")
  for $mesh->sides;

is_deeply($mesh->stop, { map { $_ => 0 } $mesh->sides }, 'the relays end with status 0');
done_testing;
