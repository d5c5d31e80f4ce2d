# Values of hundreds of megabytes: they arrive exactly while the origin's server is patient for five seconds only (Mesh.pm),
# others of them are refused with a word about the row, and what is behind them flows.  Sizes in megabytes come
# from TIDE_LARGE_MB.

use strict;
use warnings;

use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $LARGE = $ENV{TIDE_LARGE_MB} // 150;
my $LIMIT = 60 + $LARGE / 2;    # seconds
my $CONF = "max_wal_size = 4GB\nshared_buffers = 256MB\n";

my $mesh;

# An SQL expression of so many megabytes that no method makes smaller.
sub value_of
{
	my ($mb) = @_;
	return "repeat((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 31250) n), $mb)";
}

sub set_up
{
	$mesh = PgTide::Mesh->new(conf => $CONF);
	$mesh->sql_all(<<~'END');
		CREATE TABLE big (id int PRIMARY KEY, v text, n int);
		CREATE TABLE merged (id int PRIMARY KEY, v text);
		CREATE TABLE other (id int PRIMARY KEY, j jsonb, v text);
		ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
		ALTER TABLE merged ALTER v SET STORAGE EXTERNAL;
		END
	$mesh->sql('us', 'INSERT INTO big VALUES (1, ' . value_of(30) . ', 0); INSERT INTO merged VALUES (1, ' . value_of(20) . ')');
	$mesh->sql('eu', q{INSERT INTO merged VALUES (2, 'of eu')});
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for qw(big merged other);
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	ok(defined $mesh->wait_copied('eu', 'us', $LIMIT), 'the first copy is done');
	$mesh->same_tables('... a table with a row of 30 MB', ['big']);
	is($mesh->sql('eu', 'SELECT string_agg(id || md5(v), chr(32) ORDER BY id) FROM merged WHERE id = 1'),
		$mesh->sql('us', 'SELECT string_agg(id || md5(v), chr(32) ORDER BY id) FROM merged'),
		'... one with a row of 20 MB, into a table that had others');
	return;
}

sub arrives
{
	my ($name, $sql) = @_;
	$mesh->sql('us', $sql);
	my $took = $mesh->wait_for_catchup('us', 'eu', $LIMIT);
	ok(defined $took, sprintf '%s (%.1f s, relay at most %d MiB)', $name, $took // -1, ($mesh->relay('eu')->memory_kib)[1] / 1024);
	return $mesh->same_tables('... exactly', ['big']);
}

# How often a server of us has lost patience with a reader.
sub ended
{
	my $log = slurp_file($mesh->node('us')->logfile);
	return scalar(() = $log =~ /terminating walsender process due to replication timeout/g);
}

sub test_arriving
{
	arrives("a value of $LARGE MB arrives", 'INSERT INTO big VALUES (2, ' . value_of($LARGE) . ', 0)');
	arrives('... so does the row when another column changes', 'UPDATE big SET n = 1 WHERE id = 2');
	is(ended(), 0, '... and the server never ended the connection for silence');
	return;
}

sub waits
{
	my ($side, $what) = @_;
	return $mesh->wait_value($side, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'relay' AND wait_event_type = 'Lock'}, 't', 30)
	  // die "$what does not wait\n";
}

# The stream is opened once more, with a row of 40 MB under way, while the relay waits for an answer of the origin.
sub refused_while_asking
{
	my ($question, $lock, @ids) = @_;
	my $relay = $mesh->relay('eu');
	my $known = length $relay->log_text;
	my ($here, $there) = map { $mesh->node($_)->background_psql('postgres') } qw(eu us);
	$here->query_safe('BEGIN; LOCK TABLE big');
	$mesh->sql('us', "INSERT INTO big VALUES ($ids[0], " . value_of(40) . ", 0), ($ids[1], 'small', 0)");
	waits('eu', 'the apply');
	$there->query_safe("BEGIN; $lock");
	waits('us', 'the question to the origin');
	$here->query_safe('COMMIT');
	my $refused = sub { substr($relay->log_text, $known) =~ /a large transaction was refused/ };
	ok(defined wait_until($refused, $LIMIT, 'the refusal'), "refused while the origin is asked for $question");
	$there->query_safe('COMMIT');
	$_->quit for $here, $there;
	ok(defined $mesh->wait_for_catchup('us', 'eu', $LIMIT), 'a row of 40 MB that eu refuses holds up nobody');
	return;
}

# A heartbeat waits for nothing that could be held; this one does.
sub make_heartbeats_wait
{
	my $real = $mesh->sql('us', q{SELECT pg_get_functiondef('tide.rows_heartbeat()'::regprocedure)});
	(my $waiting = $real) =~ s/(AS \$\w+\$)/$1 SELECT pg_advisory_xact_lock_shared(454);/;
	$mesh->sql('us', $waiting);
	return $real;
}

# Its row waits with the reason; those of others don't.
sub test_parked
{
	$mesh->sql('eu', 'ALTER TABLE big ADD CONSTRAINT short CHECK (length(v) < 1000000) NOT VALID');
	refused_while_asking('its tables', 'LOCK TABLE tide.class, tide.replicated_table', 3, 4);
	my $real = make_heartbeats_wait();
	refused_while_asking('a heartbeat', 'SELECT pg_advisory_xact_lock(454)', 7, 8);
	$mesh->sql('us', $real);
	is($mesh->sql('eu', q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM big WHERE id > 2}), '4 8', '... not even its own transaction');
	like($mesh->sql('eu', 'SELECT table_name, code, reason FROM tide.parked_change WHERE id = (SELECT min(id) FROM tide.parked_change)'),
		qr/^big\|23514\|.*short/, '... it is parked with the reason');
	unlike($mesh->relay('eu')->log_text, qr/level=error/, '... and that is no error of the link');
	$mesh->sql('eu', 'ALTER TABLE big DROP CONSTRAINT short; SELECT tide.pending_retry(id) FROM tide.parked_change');
	return $mesh->same_tables('... and comes when it is tried again', ['big']);
}

# What could never be decoded is refused while it is written.
sub test_refused
{
	my $error = $mesh->error_of('us', q{INSERT INTO other VALUES (1, NULL, repeat('x', 1048576000))});
	like($error, qr/54000: a row of table "other" is too large to be replicated/, 'a row of 1000 MB is refused');
	like($error, qr/DETAIL:  As a change it has 1048576\d{3} bytes; at most 1048576000 can travel/, '... with its size');
	like($error, qr/HINT:  Split its values/, '... and what to do');
	# 130 kB here, 1.09 GB as text, which is how jsonb travels.
	$error = $mesh->error_of('us', q{INSERT INTO other VALUES (1, ('[' || rtrim(repeat('1e131071,', 8300), ',') || ']')::jsonb)});
	like($error, qr/54000: a row of table "other" is too large/, 'so is a small one that grows on its way');
	$mesh->sql('us', q{INSERT INTO other VALUES (2, '{"a": 1e1000}', 'behind')});
	ok(defined $mesh->wait_for_catchup('us', 'eu', $LIMIT), '... and what is written next arrives');
	return $mesh->same_tables('... exactly', ['other']);
}

# Killed before what it took was confirmed, it looks for that at the origin when it begins; what has been
# confirmed when it opens the stream once more must not be looked for again.
sub test_memory
{
	my $relay = $mesh->relay('eu');
	$mesh->sql('us', q{INSERT INTO other VALUES (3, NULL, 'before the kill')});
	$mesh->wait_value('eu', 'SELECT count(*) FROM other WHERE id = 3', 1, 30);
	$relay->kill9;
	$relay->start;
	arrives('after a kill a value of 70 MB arrives', 'INSERT INTO big VALUES (5, ' . value_of(70) . ', 0)');
	my ($now, $most) = $relay->memory_kib;
	cmp_ok($most, '>', 140 * 1024, sprintf '... for which the relay took %d MiB', $most / 1024);
	my $took = wait_until(sub { $relay->alive && ($relay->memory_kib)[0] < 60 * 1024 }, 100, 'the memory to be given back');
	ok(defined $took, '... and gives them back a minute later');
	arrives('... after which rows arrive', q{INSERT INTO big VALUES (6, 'behind', 0)});
	# On a starved machine the server's patience may end all the same.
	my @lines = grep { !/is interrupted; trying again.*server closed the connection/ } split /\n/, $relay->log_text;
	unlike(join("\n", @lines), qr/level=(?:warn|error)/, '... and nothing went wrong');
	return;
}

set_up();
test_arriving();
test_parked();
test_refused();
test_memory();
$mesh->nothing_special('no resync');
$mesh->stop;

done_testing();
