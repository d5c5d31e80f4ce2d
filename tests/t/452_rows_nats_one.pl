# Rows over one NATS server that both regions share, without domains: credentials by reference, a
# stream that is far too small, a region that takes rows of a broker in another domain without being told
# which, relays that take over from each other.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Nats;
use PgTide::Test qw(wait_until);

my $PORT = 4250;
my $URL = "nats://127.0.0.1:$PORT";
my $nats = PgTide::Nats->new(
	name        => 'one',
	url         => $URL,
	ctl_options => [qw(--user rows --password s3cret)],
	config      => <<"END")->start;
listen: "127.0.0.1:$PORT"
jetstream { store_dir: "data" }
authorization { users: [ { user: rows, password: s3cret } ] }
END

my $mesh = PgTide::Mesh->new;
$mesh->sql_all('CREATE TABLE t (id bigint PRIMARY KEY, v text)');
$mesh->class('shared');
$mesh->add_table('t', 'shared');
$mesh->start_relays(env => { ROWS_PASSWORD => 's3cret' });

sub link_options
{
	return PgTide::Duo::jsonb({ transport => 'nats', url => $URL, user => 'rows', @_ });
}

like(
	$mesh->error_of('eu', sprintf q{SELECT tide.link_add('us-east', %s)}, link_options(password => 's3cret')),
	qr/password/, 'a password in clear is refused');
unlike(
	$mesh->error_of('eu', sprintf q{SELECT tide.link_add('us-east', %s)}, link_options(password => 's3cret')),
	qr/s3cret/, '... and not repeated');
$mesh->sql('eu', sprintf q{SELECT tide.link_add('us-east', %s)},
	link_options(password => 'env:ROWS_PASSWORD', max_bytes => 4_000_000));
ok(defined $mesh->wait_copied('eu', 'us'), 'with a reference the link streams');
$mesh->sql('us', q{INSERT INTO t SELECT i, 'by one server' FROM generate_series(1, 1000) i});
$mesh->settle_one('us', 'eu');
$mesh->same_tables('rows arrive', ['t']);
unlike($mesh->sql('us', 'SELECT options FROM tide.rows_publisher'), qr/s3cret/, 'no secret is stored at the origin');

# Ten times what the stream holds, while nobody reads.
$mesh->relay('eu')->stop;
my $seen = $nats->ctl('stream-info', 'TIDE_ROWS_us-east')->{state}{last_seq};
$mesh->sql('us', sprintf q{INSERT INTO t SELECT i, (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 1000) j)
	FROM generate_series(%d, %d) i}, $_ * 1000, $_ * 1000 + 99) for 10 .. 19;
ok(
	defined wait_until(
		sub { $nats->ctl('stream-info', 'TIDE_ROWS_us-east')->{state}{first_seq} > $seen + 3 }, 30, 'the stream to overflow'),
	'the stream drops what it has no room for');
$mesh->start_relay('eu', env => { ROWS_PASSWORD => 's3cret' });
$mesh->settle_one('us', 'eu', 120);
$mesh->same_tables('what the stream had no room for arrives', ['t']);
cmp_ok($mesh->relay('us')->metric('pg_tide_row_rewinds_total', qr/pipeline="rows:publish"/), '>', 0, '... as it was asked for again');
$mesh->nothing_special('nothing was copied twice');

# A relay that hangs: another one takes its pipelines over, and the hanging one harms nobody.
$mesh->relay('us')->freeze;
my $spare = PgTide::Relay->new(
	name     => 'spare',
	conninfo => $mesh->node('us')->relay_conninfo,
	env      => { ROWS_PASSWORD => 's3cret' })->start(limit => 40);
$mesh->sql('us', q{UPDATE t SET v = 'taken over' WHERE id <= 500});
$mesh->settle_one('us', 'eu', 60);
$mesh->relay('us')->thaw;
$mesh->sql('us', q{UPDATE t SET v = 'and awake' WHERE id <= 400});
$mesh->settle_one('us', 'eu', 60);
$mesh->same_tables('another relay publishes when one hangs', ['t']);
$mesh->nothing_special('nothing was copied twice');
is($spare->stop, 0, 'the spare ends with status 0');

$nats->stop;
$mesh->stop;
done_testing;
