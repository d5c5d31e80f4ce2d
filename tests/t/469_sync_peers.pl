# Two synchronous classes with two different peers, in one database, beside an asynchronous one.  The server can only wait
# for everybody it lists: so each commit waits for both, whichever class it writes; an asynchronous one never does.  What has returned
# is in both peers when the origin is killed.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(sides => [qw(us eu ap)]);
my %PEER = (money => 'eu', books => 'ap');
my $n = 0;

sub session
{
	my (@args) = @_;
	$n++;
	return PgTide::Process->new(
		name    => "session $n",
		log     => "$ENV{TIDE_DATA}/session$n.log",
		command => [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-d', $mesh->node('us')->connstr('postgres'), @args ])->start;
}

sub waiting
{
	my ($wanted) = @_;
	return defined $mesh->wait_value('us', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, $wanted);
}

sub list_standbys
{
	my ($line) = @_;
	$mesh->sql('us', "ALTER SYSTEM SET synchronous_standby_names = '$line'");
	$mesh->node('us')->reload;
	defined $mesh->wait_value('us', 'SHOW synchronous_standby_names', $line) or die "not reloaded\n";
	return;
}

sub ended { return $mesh->sql('us', q{SELECT string_agg(class || ' ' || ended, ' ' ORDER BY class) FROM tide.durability}); }

$mesh->sql_all(join ' ', map { "CREATE TABLE $_ (id int PRIMARY KEY, v int);" } qw(money books clicks));
$mesh->class($_, scope => 'primary', primary => 'us-east', durability => 'sync', peer => $PgTide::Mesh::REGION{ $PEER{$_} }) for sort keys %PEER;
$mesh->class('clicks');
$mesh->add_table($_, $_) for qw(money books clicks);
$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

# ---- the list ----

my ($eu, $ap) = map { $mesh->sql('us', "SELECT tide._standby('$_')") } @PgTide::Mesh::REGION{qw(eu ap)};
$mesh->sql('us', 'ALTER SYSTEM SET synchronous_commit = local');
like($mesh->error_of('us', 'INSERT INTO money VALUES (1, 1)'), qr/TD022.*HINT: .*'ANY 2 \(\Q$ap\E, \Q$eu\E\)'/s, 'the hint has the line for both');
list_standbys($eu);
$mesh->sql('us', 'INSERT INTO money VALUES (1, 1)');
is($mesh->sql('eu', 'SELECT count(*) FROM money'), 1, 'one of them listed: its class is written, and waits');
like($mesh->error_of('us', $_), qr/TD022: .* region "ap-east", as class "books" demands/, "... the other's is refused: $_")
  for 'INSERT INTO books VALUES (1, 1)', 'BEGIN; INSERT INTO money VALUES (2, 1); INSERT INTO books VALUES (2, 1); COMMIT';
for my $line ("ANY 1 ($eu, $ap)", "FIRST 1 ($eu, $ap)")
{
	list_standbys($line);
	like($mesh->error_of('us', "INSERT INTO $_ VALUES (3, 1)"), qr/TD022/, "$line promises nothing to $_") for sort keys %PEER;
}
list_standbys("FIRST 2 ($eu, $ap)");
$mesh->sql('us', 'INSERT INTO money VALUES (4, 1)');
list_standbys("ANY 2 ($eu, $ap)");
ok(defined $mesh->wait_value('us', 'SELECT bool_and(listed AND connected) FROM tide.durability', 't'), 'both are listed, and there');

# ---- waiting ----

for my $class (sort keys %PEER)
{
	$mesh->sql('us', "INSERT INTO $class VALUES (10, 1)");
	is($mesh->sql($PEER{$class}, "SELECT count(*) FROM $class WHERE id = 10"), 1, "$class: what has returned is in $PEER{$class}");
}
$mesh->relay('ap')->freeze;
my @sessions = map { session('-c', $_) } 'INSERT INTO books VALUES (20, 1)', 'INSERT INTO money VALUES (20, 1)',
  'BEGIN; INSERT INTO clicks VALUES (20, 1); INSERT INTO money VALUES (21, 1); INSERT INTO books VALUES (21, 1); COMMIT';
ok(waiting(3), 'ap stands still: commits of both classes wait');
is(session('-c', 'INSERT INTO clicks VALUES (22, 1)')->wait_end(20), 0, '... and none of the asynchronous class');
$mesh->relay('ap')->thaw;
is(join(' ', map { $_->wait_end(30) // 'waits' } @sessions), '0 0 0', '... until it goes on');
is(join('', map { $_->log_text } @sessions), '', '... without a word');
is(ended(), 'books 0 money 0', '... and nothing ended early');

# A limit is that of the classes that are written.
$mesh->sql_all(q{SELECT tide.class_alter('books', '{"wait": "1 second"}')});
$mesh->relay('ap')->freeze;
my $session = session('-c', 'INSERT INTO books VALUES (30, 1)');
is($session->wait_end(20), 0, 'a limit: the commit returns');
like($session->log_text, qr/WARNING:  TD022: committed here, but region "ap-east" has not confirmed it/, '... and says who has not confirmed it');
$session = session('-c', 'INSERT INTO money VALUES (30, 1)');
ok(waiting(1), 'a class without a limit waits');
is(ended(), 'books 1 money 0', '... each has its own count');
$mesh->relay('ap')->thaw;
is($session->wait_end(30), 0, '... until both have it');
is($session->log_text, '', '... without a word');

# ---- the origin is killed ----

my @writers = map {
	my $from = 1000 * $_;
	my $file = "$ENV{TIDE_DATA}/writer$from.sql";
	open my $out, '>', $file or die "$file: $!";
	print $out map { "BEGIN; INSERT INTO money VALUES ($_, 1); INSERT INTO books VALUES ($_, 1); COMMIT;\n\\echo said $_\n" } $from .. $from + 999;
	close $out;
	session('-f', $file)
} 1 .. 4;
my $said = sub { return map { $_->log_text =~ /^said (\d+)$/mg } @writers; };
ok(defined wait_until(sub { $said->() >= 100 }, 60, 'commits'), 'commits return');
$mesh->node('us')->stop('immediate');
$_->wait_end(20) for @writers;
my $ids = join ',', $said->();
for my $class (sort keys %PEER)
{
	is($mesh->sql($PEER{$class}, "SELECT count(*) FROM unnest('{$ids}'::int[]) u (id) WHERE NOT EXISTS (SELECT FROM $class t WHERE t.id = u.id)"),
		0, "the origin is killed: every commit that had returned is in $PEER{$class}");
}
$mesh->node('us')->start;
$mesh->settle;
$mesh->same_tables('in the end all are equal', [qw(money books clicks)]);
$mesh->nothing_special('nothing was parked or copied again');
$mesh->stop;
done_testing();
